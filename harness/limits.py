"""Every number that a finding is held against, in one model: gates and conditions of timing. Pure: no heavy library.

What a tier spends (images, steps, seconds) and the margin that it allows stand in `harness.settings.TIERS`, the temperatures and clocks of
a device in its profile, an artefact's parity with the twin in `export.parity.LIMITS`: that room knows no other.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """Shares are of 1, errors relative."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean_loss: float = Field(default=0.01, description="clean accuracy that an engine may lose against the twin")
    class_loss: float = Field(default=0.5, description="of the clean images of one class that the twin has right, what an engine may lose")
    large_radius_accuracy: float = Field(default=0.05, description="attacked images that may stay right at eps = 64/255")
    beyond_noise: float = Field(default=1.5, description="of the fall of a margin under noise: what an attack along gradients must exceed")
    zero_gradient: float = Field(default=0.05, description="attacked images that may start from a gradient of zero")
    query_advantage: float = Field(default=0.01, description="accuracy that a query attack may take beyond the white-box attacks")
    undone_by_rounding: float = Field(default=0.02, description="attacked images whose success rounding to bytes may undo")
    fidelity_clean: float = Field(default=0.99, description="clean images on which STE twin and engine name the same class")
    fidelity_adversarial: float = Field(default=0.97, description="the same of adversarial images")
    lead_correlation: float = Field(
        default=0.5, description="rank correlation, at least, of how far a user's own engine's top class leads with the twin's"
    )
    class_order: float = Field(
        default=0.6, description="Gini correlation with the twin's logits below which a user's own engine has the classes in another order"
    )
    other_order: float = Field(default=0.02, description="images on which it may have them so, of those on which it names the twin's class")
    own_agreement: float = Field(default=0.9, description="clean images on which a user's own engine names the twin's class")
    own_adversarial: float = Field(default=0.8, description="the same of images that were attacked on the twin")
    own_kept: float = Field(
        default=0.03, description="of the images that the attacks take from the twin, what a user's own engine, attacked itself, may keep"
    )
    fresh_same: float = Field(default=0.99, description="images to which an engine opened anew answers as before")
    fresh_error: float = Field(
        default=0.05, description="of the largest logit (`export.scale`), between an engine's answers and those opened anew"
    )
    engine_gain: float = Field(default=0.05, description="robust accuracy that an engine may have above the twin's")
    copies: float = Field(default=0.2, description="test images that may be copies of others, byte for byte")
    near_copies: float = Field(default=0.02, description="test images that may be all but copies of calibration images")
    calibration_cover: float = Field(default=0.9, description="test images whose class, by the twin, is named on calibration images")
    calibration_distance: float = Field(default=0.5, description="between calibration and test images, of a statistic's distribution")
    rising_loss: float = Field(default=0.05, description="attacked images whose margin still falls at an attack's end")
    late_fall: float = Field(default=0.25, description="of the whole fall of a margin, in an attack's last steps")
    increasing_loss: float = Field(default=0.05, description="attacked images whose margin an attack leaves no smaller than at its start")
    silent_success: float = Field(default=0.05, description="attacked images that an iterate fooled and the kept image does not")
    rebuild_spread: float = Field(default=0.01, description="images on which a build names another class than the first")
    logit_error: float = Field(default=1e-3, description="of the largest logit (`export.scale`): saturation, and another order of sums")
    rounding_room: float = Field(default=2.0, description="of the distance between two ways to compute a file here: kernels of another CPU")
    repeated_speed: float = Field(default=0.9, description="time of one input repeated against that of fresh ones, at least")
    own_clock: float = Field(default=0.7, description="share of a call's time that an engine's own clock must report")
    latency_drift: float = Field(default=0.25, description="share by which the calls may grow slower from the first rounds to the last")
    latency_variation: float = Field(default=0.025, description="of the medians of the windows of a measurement")
    other_programs: float = Field(default=0.10, description="CPU time that other programs may take beside a measurement")
    steal: float = Field(default=0.01, description="time that a hypervisor may withhold")


LIMITS = Limits()


def apart(value: float, limit: float, decimals: int, kind: str = "f") -> str:
    """A figure beside its limit: to so many decimals, or to as many, up to three more, as tell the two apart. `kind`: `f`, or `%`."""
    for digits in range(decimals, decimals + 4):
        text = f"{value:.{digits}{kind}}"
        if value == limit or text != f"{limit:.{digits}{kind}}":
            break
    return text
