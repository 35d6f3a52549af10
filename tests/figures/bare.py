"""A bare workflow with the pipeline's five activities: what the pipeline's own is compared with."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from labkit.pipeline import activities
    from labkit.pipeline.messages import (
        DeployInput,
        Experiment,
        PipelineInput,
        PreprocessInput,
        TrainInput,
    )

A_MINUTE = timedelta(minutes=1)


@workflow.defn
class Bare:
    @workflow.run
    async def run(self, request: PipelineInput) -> str:
        path, ask = request.dataset_path, workflow.execute_activity
        raw = PreprocessInput("m", path, None, None, False)
        dataset = await ask(activities.preprocess_data, raw, start_to_close_timeout=A_MINUTE)
        table = TrainInput("m", dataset)
        model = await ask(activities.train_model, table, start_to_close_timeout=A_MINUTE)
        row = Experiment(path, model)
        await ask(activities.log_experiment, row, start_to_close_timeout=A_MINUTE)
        figures = model.metrics
        await ask(activities.assess_model_quality, figures, start_to_close_timeout=A_MINUTE)
        order = DeployInput("dev", model, "1")
        done = await ask(activities.deploy_to_environment, order, start_to_close_timeout=A_MINUTE)
        return done.url
