-- One row an experiment. A pipeline that logs its experiment twice (because the answer to the
-- first attempt was lost) finds its own row: workflow and run id are unique together.
CREATE TABLE IF NOT EXISTS experiments (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow_id     text             NOT NULL,
    run_id          text             NOT NULL,
    model_id        text             NOT NULL,
    dataset_path    text             NOT NULL,
    started_at      timestamptz      NOT NULL,
    completed_at    timestamptz      NOT NULL,
    hyperparameters jsonb            NOT NULL,
    accuracy        double precision NOT NULL,
    mae             double precision NOT NULL,
    r2_score        double precision NOT NULL,
    samples         integer          NOT NULL,
    seconds         double precision NOT NULL,
    UNIQUE (workflow_id, run_id)
);

-- One row a request for approval that has ended: by whom, when and why. One that expired names
-- nobody.
CREATE TABLE IF NOT EXISTS approvals (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow_id text        NOT NULL,
    run_id      text        NOT NULL,
    model_id    text        NOT NULL,
    outcome     text        NOT NULL CHECK (outcome IN ('approved', 'rejected', 'expired')),
    decided_by  text        NOT NULL,
    reason      text        NOT NULL,
    decided_at  timestamptz NOT NULL,
    UNIQUE (workflow_id, run_id)
);
