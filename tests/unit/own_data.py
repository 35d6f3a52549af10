"""Tables of other shapes than abalone's, by seeded generators, as CSVs with a header line."""

import numpy as np
import pandas as pd


def houses(rows: int, seed: int = 1) -> bytes:
    """30 columns, as lists of sold houses have: numbers, categories, empty fields, an id."""
    rng = np.random.default_rng(seed)
    area, year = rng.normal(1500, 400, rows).clip(300).round(), rng.integers(1900, 2020, rows)
    table = pd.DataFrame({"Id": np.arange(1, rows + 1), "Lot Area": area, "YearBuilt": year})
    table["Zone"] = rng.choice(["RL", "RM", "C (all)"], rows)
    table["Fence"] = rng.choice(["MnPrv", "GdWo", ""], rows)
    for n in range(23):
        table[f"{n + 1}stQual"] = rng.integers(1, 11, rows)
    table["LotFrontage"] = np.where(rng.random(rows) < 0.1, np.nan, (area / 20).round(1))
    table["price"] = (area * 90 + (year - 1900) * 400 + rng.normal(0, 9000, rows)).round()
    return table.to_csv(index=False).encode()


def bikes(rows: int, seed: int = 2) -> bytes:
    """Rentals by the hour: a date that nobody needs, categories that are written as numbers."""
    rng = np.random.default_rng(seed)
    hour, temp = rng.integers(0, 24, rows), rng.random(rows).round(2)
    table = pd.DataFrame(
        {"dteday": pd.date_range("2011-01-01", periods=rows, freq="h"), "hr": hour}
    )
    table["season"] = rng.integers(1, 5, rows)
    table["temp"] = temp
    busy = 200 * np.exp(-(((hour - 17) / 4) ** 2)) + 150 * temp + 30 * (table["season"] == 3)
    table.insert(2, "cnt", rng.poisson(busy + 5))
    return table.to_csv(index=False).encode()


def wines(rows: int, seed: int = 3) -> bytes:
    """Eleven measures and a grade, separated by semicolons, as the UCI file is."""
    rng = np.random.default_rng(seed)
    names = "fixed acidity,volatile acidity,citric acid,residual sugar,chlorides,density,pH"
    names += ",free sulfur dioxide,total sulfur dioxide,sulphates"
    table = pd.DataFrame({name: rng.random(rows).round(3) for name in names.split(",")})
    table["alcohol"] = rng.uniform(8, 14, rows).round(1)
    grade = 3 + (table["alcohol"] - 8) * 0.8 - table["volatile acidity"]
    table["quality"] = grade.add(rng.normal(0, 0.3, rows)).round().clip(3, 9).astype(int)
    return table.to_csv(index=False, sep=";").encode()


SHAPES = {"houses": houses, "bikes": bikes, "wines": wines}
TARGETS = {"houses": "price", "bikes": "cnt", "wines": "quality"}
