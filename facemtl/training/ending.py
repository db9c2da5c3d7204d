"""The end of a run: held-out figures, the model in a folder, and the report."""

from __future__ import annotations

from facemtl.training.held_out import HeldOutFigures, held_out_figures
from facemtl.training.metrics_file import METRICS_FILE
from facemtl.training.outcome import draw_grid, export_model
from facemtl.training.report import write_report
from facemtl.training.run import Run
from facemtl.training.run_facts import flat, plain


def held_out_of(run: Run) -> HeldOutFigures | None:
    """Figures on the people held out, on the first process; None on the others, or if nobody is held out.

    Args:
        run: Of which the model is judged as it is now.
    """
    if run.faces.held_out is None or not run.processes.is_main:
        return None
    return held_out_figures(run.model, run.faces.held_out, seed=run.settings.seed)


def write_ending(run: Run, untrained: HeldOutFigures | None) -> HeldOutFigures | None:
    """Write ``model/``, ``grid.png`` and ``report.html``; all processes call it, the first one writes.

    Args:
        run: At its end.
        untrained: Figures of the model before training, for comparison.

    Returns:
        Figures of the model now.
    """
    if not run.processes.is_main:
        run.processes.barrier()
        return None
    output, faces = run.settings.output, run.faces
    figures = held_out_of(run)
    draw_grid(run.model, faces.held_out or faces.training, output / "grid.png")
    export_model(
        run.model,
        output / "model",
        identity_names=faces.identity_names,
        image_size=run.settings.faces.image_size,
        onnx=run.settings.record.onnx,
    )
    write_report(
        output / "report.html",
        title="MTLFace",
        settings=flat(plain(run.settings)),
        metrics_csv=output / METRICS_FILE,
        grid_png=output / "grid.png",
        figures=figures,
        baseline=untrained,
    )
    run.processes.barrier()
    return figures
