"""Makes the picture of the README: python -m docs.pictures

Trains the model of `make demo` if it is not there, then draws one frame of a test subject per
column: the 2D input above; below, upright in the world frame, the true pose (thin) and the
prediction (thick, optimally scaled).
"""

import pathlib

import gin
import matplotlib
import numpy as np

from ige import configs, runners
from ige.checkpoints import Checkpoints
from ige.geometry import alignment
from ige.hpe import vis
from ige.runs import default_model_dir

ACTIONS = ("Directions", "Greeting", "Posing", "Sitting", "Walking")
BINDINGS = (
    "data = 'synthetic'",
    "epochs = 5",
    "default_model_dir.base_dir = '~/ige_models/demo'",
)


def main() -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    name = configs.parse(["hpe/b128-1"], BINDINGS)
    runners.train(name)
    checkpoints = Checkpoints(default_model_dir(name))
    model = checkpoints.load_model(checkpoints.epochs()[-1])
    problem = gin.get_configurable("hpe.HpeProblem")()
    inputs, truth = problem.arrays("test")
    views = problem.views("test")
    ends = np.cumsum([len(sequence.poses) for sequence, _ in views])

    figure = pyplot.figure(figsize=(2 * len(ACTIONS), 5), layout="constrained")
    for column, action in enumerate(ACTIONS):
        view = next(i for i, (sequence, _) in enumerate(views) if sequence.action == action)
        sequence, camera = views[view]
        row = ends[view] - len(sequence.poses) // 2
        pose_2d, pose_3d = inputs["pose_2d"][row], truth[row]
        predicted = model.predict({"pose_2d": pose_2d[None]}, verbose=0)
        predicted = alignment.scale_aligned(predicted, pose_3d[None]).numpy()[0]
        error = 1000 * np.linalg.norm(predicted - pose_3d, axis=-1).mean()

        axes = figure.add_subplot(2, len(ACTIONS), column + 1)
        vis.draw_pose_2d(axes, pose_2d, problem.input_skeleton, linewidth=2)
        axes.set_title(action, fontsize=10)
        axes = figure.add_subplot(2, len(ACTIONS), len(ACTIONS) + column + 1, projection="3d")
        upright = sequence.cameras[camera].rotation  # world to camera; its transpose goes back
        vis.draw_pose_3d(axes, predicted @ upright, problem.skeleton, linewidth=4, alpha=0.4)
        vis.draw_pose_3d(axes, pose_3d @ upright, problem.skeleton, linewidth=1)
        vis.frame_3d(axes, pose_3d @ upright)
        axes.view_init(elev=12, azim=-60)
        axes.set_title(f"{error:.0f} mm", fontsize=10, y=-0.08)
    path = pathlib.Path(__file__).with_name("lifting.png")
    figure.savefig(path, dpi=100)
    print(path)


if __name__ == "__main__":
    main()
