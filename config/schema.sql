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

CREATE INDEX IF NOT EXISTS experiments_model ON experiments (model_id);

-- One row a request for approval that has ended, and a rollback: by whom, when and why. A request
-- that expired names nobody.
-- A run that was rescued or run again has a new run id, and the same model.
CREATE TABLE IF NOT EXISTS approvals (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow_id text        NOT NULL,
    run_id      text        NOT NULL,
    model_id    text        NOT NULL,
    outcome     text        NOT NULL,
    decided_by  text        NOT NULL,
    reason      text        NOT NULL,
    decided_at  timestamptz NOT NULL,
    UNIQUE (workflow_id, model_id),
    CONSTRAINT approvals_outcomes
        CHECK (outcome IN ('approved', 'rejected', 'expired', 'rolled back'))
);

-- A table from before that was so: of two rows for one model, the later decision took effect.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'approvals'::regclass
               AND conname = 'approvals_workflow_id_run_id_key') THEN
        DELETE FROM approvals old USING approvals later
            WHERE later.workflow_id = old.workflow_id AND later.model_id = old.model_id
            AND later.id > old.id;
        ALTER TABLE approvals DROP CONSTRAINT approvals_workflow_id_run_id_key;
        ALTER TABLE approvals ADD UNIQUE (workflow_id, model_id);
    END IF;
    -- Nor did it know of rollbacks.
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'approvals_outcomes') THEN
        ALTER TABLE approvals DROP CONSTRAINT IF EXISTS approvals_outcome_check;
        ALTER TABLE approvals ADD CONSTRAINT approvals_outcomes
            CHECK (outcome IN ('approved', 'rejected', 'expired', 'rolled back'));
    END IF;
END $$;
