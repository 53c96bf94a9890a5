"""`countersign train …`: fits classifiers and the encoder on a company's own examples."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.commands.registry import Add, CommandFailed, Run

if TYPE_CHECKING:
    from inference.training import Observe, TrainingStep


def register(add: Add) -> None:
    """Add the commands of this group."""
    kinds = add("train", None, "fit the encoder and the classifiers on your own examples").add_subparsers(
        required=True, metavar="what"
    )
    encoder = kinds.add_parser("encoder", help="tune the sentence encoder; goes on where it stopped")
    encoder.add_argument("--train", type=Path, required=True, help='JSON: {"train": [["text", "label"], …]}')
    encoder.add_argument("--out", type=Path, required=True, help="folder to make")
    encoder.add_argument("--epochs", type=int, help="times through the examples")
    encoder.add_argument("--install", action="store_true", help="use it from the next start on")
    encoder.add_argument("--queue", action="store_true", help="let a worker do it; see `train progress`")
    encoder.set_defaults(run=_for_operators(_encoder))

    intents = kinds.add_parser("intents", help="fit a classifier of intents that knows what it does not know")
    intents.add_argument("--train", type=Path, required=True, help='JSON: {"train": [["text", "label"], …]}')
    tickets = kinds.add_parser("tickets", help="fit a classifier of tickets: category, priority, queue")
    tickets.add_argument("--train", type=Path, required=True, help="CSV with a header, or JSON lines")
    for classifier, kind in ((intents, "intents"), (tickets, "tickets")):
        classifier.add_argument("--out", type=Path, required=True, help="folder to make")
        classifier.set_defaults(run=_classifier, kind=kind, install=False)
    tickets.add_argument("--install", action="store_true", help="let the skill “triage a ticket” use it, at once")

    progress = kinds.add_parser("progress", help="say how far a worker is with a training")
    progress.add_argument("job", help="the id that --queue printed")
    progress.set_defaults(run=_for_operators(_progress))

    # No help: the worker's own, in the process that it starts for a job.
    job = kinds.add_parser("job")
    job.add_argument("job")
    job.set_defaults(run=_job)
    for command in (encoder, intents, tickets, progress, job):
        command.add_argument("--data", type=Path, help="folder of everything that must survive a restart")


def _for_operators(run: Run) -> Run:
    """Turn what a training refuses into one line."""

    def told(parsed: argparse.Namespace) -> int:
        from inference.training import TrainingFailed

        try:
            return run(parsed)
        except TrainingFailed as failure:
            raise CommandFailed(str(failure)) from failure

    return told


def _encoder(parsed: argparse.Namespace) -> int:
    from inference.training import Examples, TrainingRecipe

    recipe = TrainingRecipe() if parsed.epochs is None else TrainingRecipe(epochs=parsed.epochs)
    examples = Examples.read(parsed.train)
    if parsed.queue:
        return _queue(parsed, recipe.epochs)
    print(f"{len(examples.texts)} examples of {len(examples.names)} labels, {recipe.epochs} epochs")
    meta = _tune(examples, parsed.out, recipe, _on_a_bar())
    print(json.dumps(meta["held_out"], indent=2))
    print(f"The tuned encoder is in {parsed.out}.")
    if parsed.install:
        print(f"It is installed in {_install(parsed.out, _data(parsed))}; restart the product to use it.")
    return 0


def _queue(parsed: argparse.Namespace, epochs: int) -> int:
    from actions.hints import TRAINING_DOOR, Hints
    from bot.training_jobs import TrainingJob, TrainingJobs
    from bot.up import settings_of

    settings = settings_of(parsed.data, None)
    job = TrainingJob(str(parsed.train.absolute()), str(parsed.out.absolute()), epochs, parsed.install)
    job_id = TrainingJobs(settings.data).add(job)
    hints = Hints(settings.redis_url)
    try:
        told = hints.send(job_id, door=TRAINING_DOOR)
    finally:
        hints.close()
    print(job_id)
    if not told:
        print("Redis took no hint; a worker finds the job within half a minute of looking.", file=sys.stderr)
    return 0


def _classifier(parsed: argparse.Namespace) -> int:
    from bot.classifier_training import train_intents, train_tickets
    from bot.up import settings_of
    from inference.model import ModelUnavailable

    settings = settings_of(parsed.data, None, redis_needed=False)
    train = train_intents if parsed.kind == "intents" else train_tickets
    try:
        card = train(parsed.train, parsed.out, settings, sys.stderr)
    except ModelUnavailable as error:
        raise CommandFailed(str(error)) from error
    print(card, end="")
    print(f"\nThe classifier is in {parsed.out}.")
    if parsed.install:
        from inference.triage import INSTALLED

        place = settings.data / INSTALLED
        _put(parsed.out, place)
        print(f"It is installed in {place} and used from the next question on.")
    return 0


def _progress(parsed: argparse.Namespace) -> int:
    from bot.training_jobs import TrainingJobs

    found = TrainingJobs(_data(parsed)).progress(parsed.job)
    print(f"{found['state']}: step {found['step']} of {found['steps']}; {found['note']}")
    return 1 if found["state"] == "failed" else 0


def _job(parsed: argparse.Namespace) -> int:
    from bot.logs import configure_logs
    from bot.training_jobs import TrainingJobs, live_with_parent
    from bot.up import settings_of

    live_with_parent()
    settings = settings_of(parsed.data, None, redis_needed=False)
    configure_logs(settings.log_format, "training")
    return train_encoder(TrainingJobs(settings.data), parsed.job, settings.data)


def train_encoder(jobs: Any, job_id: str, data: Path) -> int:
    """Run one job of a `TrainingJobs` to its end and put down how it ended; returns the exit code."""
    import structlog

    from bot.training_jobs import State
    from inference.training import Examples, TrainingRecipe, TrainingStep

    logger = structlog.get_logger(__name__)
    last = TrainingStep(0, 0, "loading the model")

    def observe(step: TrainingStep) -> None:
        nonlocal last
        last = step
        jobs.tell(job_id, State.RUNNING, step)
        logger.info("training", job=job_id, step=step.step, steps=step.steps, note=step.note)

    with jobs.held(job_id):
        observe(last)
        job = jobs.job(job_id)
        try:
            _tune(Examples.read(Path(job.train)), Path(job.out), TrainingRecipe(epochs=job.epochs), observe)
            note = job.out
            if job.install:
                note = f"{_install(Path(job.out), data)}; restart the product to use it"
        except Exception as error:
            jobs.tell(job_id, State.FAILED, TrainingStep(last.step, last.steps, str(error)))
            logger.exception("training_failed", job=job_id)
            return 1
        jobs.tell(job_id, State.DONE, TrainingStep(last.step, last.steps, note))
    return 0


def _tune(examples: Any, out: Path, recipe: Any, observe: Observe) -> dict[str, Any]:
    from inference.finetune import fine_tune

    return fine_tune(examples, out, recipe, observe)


def _on_a_bar() -> Observe:
    from bot.progress import Progress

    progress = Progress(sys.stderr)
    progress.begin(total_steps=1)
    done = -1

    def observe(step: TrainingStep) -> None:
        nonlocal done
        if done < 0:
            progress.step("Training", parts=step.steps)
            done = 0
        while done < step.step:
            done += 1
            progress.advance(step.note)
        progress.note(step.note)
        if step.step == step.steps:
            progress.end()

    return observe


def _install(folder: Path, data: Path) -> Path:
    """Put a copy of a tuned encoder in its place in the data folder, whole or not at all."""
    from inference.embeddings import INSTALLED, encoder_folder
    from inference.prepare import sha256

    if json.loads((folder / "meta.json").read_text())["model_sha256"] != sha256(folder / "model.onnx"):
        raise CommandFailed(f"{folder} is damaged: the model is not the one in its meta.json")
    place = data / INSTALLED
    _put(folder, place)
    if encoder_folder(data, folder) != place:
        raise CommandFailed(f"{folder} is of another version of the product and would not be used")
    return place


def _put(folder: Path, place: Path) -> None:
    """A copy of a folder in its place, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (place.with_name(f"{place.name}.{state}") for state in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(folder, partial)
    if place.exists():
        place.rename(old)
    partial.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _data(parsed: argparse.Namespace) -> Path:
    from bot.up import settings_of

    return settings_of(parsed.data, None, redis_needed=False).data
