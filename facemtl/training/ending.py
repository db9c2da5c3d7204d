"""The end of a run: held-out figures, the model in a folder, and the report."""

from __future__ import annotations

from facemtl.networks.mtlface import MTLFace
from facemtl.training.held_out import HeldOutFigures, held_out_figures
from facemtl.training.metrics_file import METRICS_FILE
from facemtl.training.outcome import draw_grid, export_model
from facemtl.training.report import write_report
from facemtl.training.run import Run
from facemtl.training.run_facts import flat, plain
from facemtl.training.starting_model import starting_model


def write_ending(run: Run) -> HeldOutFigures | None:
    """Write ``model/``, ``grid.png`` and ``report.html``; all processes call it, the first one writes.

    Args:
        run: At its end.

    Returns:
        Figures of the model on the people held out, on the first process; None on the others, or if nobody is.
    """
    if not run.processes.is_main:
        run.processes.barrier()
        return None
    output, faces, settings = run.settings.output, run.faces, run.settings
    export_model(
        run.model,
        output / "model",
        identity_names=faces.identity_names,
        image_size=settings.faces.image_size,
        onnx=settings.record.onnx,
    )
    draw_grid(run.model, faces.held_out or faces.training, output / "grid.png")
    figures = _held_out(run, run.model)
    # The model that the run began with, made again: judged at the start it would delay each resumption.
    untrained = _held_out(run, starting_model(settings)) if settings.start_from is None else None
    write_report(
        output / "report.html",
        title="MTLFace",
        settings=flat(plain(settings)),
        metrics_csv=output / METRICS_FILE,
        grid_png=output / "grid.png",
        figures=figures,
        baseline=untrained,
    )
    run.processes.barrier()
    return figures


def _held_out(run: Run, model: MTLFace) -> HeldOutFigures | None:
    if run.faces.held_out is None:
        return None
    return held_out_figures(model.to(run.processes.device), run.faces.held_out, seed=run.settings.seed)
