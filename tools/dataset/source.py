"""The released dataset as a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from loaders.codecs import PNG_HEADER, PNG_TAIL
from models import xr_egopose
from tools.dataset.frames import PAIRED, double_defect, name_defect, read_file, read_rotations_file
from tools.dataset.inspection import inspect_recording, modalities_in
from tools.dataset.layout import SUBJECTS, ReleaseRecording, find_recordings, read_labels
from tools.parallel import Progress
from tools.sources.defects import number_defect
from tools.sources.images import png_defect
from tools.sources.inspection import Inspection
from tools.sources.source import SPLITS, FrameError, FrameLabels, Recording, Source, SurveyedFrame

XR_EGOPOSE: Final = "tools.dataset.source:XrEgoPose"
"""How ``--source`` names it."""


class XrEgoPose(Source):
    """The tree of TrainSet, ValSet and TestSet that ``tools.arrange`` makes of the release."""

    name = xr_egopose.NAME
    camera = xr_egopose.CAMERA
    skeleton = xr_egopose.SKELETON
    action_groups = xr_egopose.ACTION_GROUPS
    components = (*PAIRED, "rot")
    subjects = SUBJECTS

    def recordings(self) -> Sequence[ReleaseRecording]:
        """Return the recordings of all splits."""
        return find_recordings(self.root, SPLITS)

    def find(self, splits: Sequence[str], subjects: Sequence[str]) -> Sequence[Recording]:
        """Return some recordings, without a look at the folders of the others."""
        return find_recordings(self.root, splits, subjects)

    def frames(self, recording: Recording) -> Iterable[int]:
        """Return the numbers of all frames that have a file of any modality but ``rot``, which few have."""
        files = _of_release(recording)
        return sorted({number for modality in PAIRED for number in files.files(modality)})

    def labels(self, recording: Recording, frame: int) -> FrameLabels:
        """Return what stands in a frame's JSON."""
        return read_labels(read_file(_of_release(recording), "json", frame))

    def image(self, recording: Recording, frame: int) -> bytes:
        """Return the bytes of a frame's PNG."""
        content = self.component(recording, frame, "rgba")
        if defect := png_defect("rgba", content[:PNG_HEADER], content[-PNG_TAIL:], self.camera):
            raise FrameError(f"rgba {defect}")
        return content

    def component(self, recording: Recording, frame: int, name: str) -> bytes:
        """Return the bytes of a frame's file of a modality."""
        release = _of_release(recording)
        return read_rotations_file(release, frame) if name == "rot" else read_file(release, name, frame)

    def survey(self, recording: Recording, components: Sequence[str]) -> Iterator[SurveyedFrame]:
        """Compare the files of a frame: each of its modalities should have one."""
        release = _of_release(recording)
        files = {modality: release.all_files(modality) for modality in PAIRED}
        numbers = sorted(set().union(*files.values()))
        # the labels come out of the JSON, whether or not it is stored
        modalities = tuple(dict.fromkeys(["json", *components]))
        if "rot" in modalities:  # few frames have rotations, and a link to another recording's gives some to no frame
            files["rot"] = release.all_files("rot")
        for frame in numbers:
            mine = {modality: files[modality].get(frame, []) for modality in modalities}
            absent = [f"no {modality} file" for modality, paths in mine.items() if not paths and modality != "rot"]
            doubles = [double_defect(modality, paths) for modality, paths in mine.items()]
            reasons = [name_defect(release, frame), number_defect(frame), ", ".join(absent), *doubles]
            doubled = any(len(paths) > 1 for paths in mine.values())
            note = "a file of the same content under two names" if doubled else ""
            yield SurveyedFrame(frame, ", ".join(filter(None, reasons)), note)

    def inspect(self, recording: Recording, progress: Progress, *, components: Sequence[str], deep: bool) -> Inspection:
        """Inspect every file of a recording."""
        return inspect_recording(_of_release(recording), progress, modalities=components, deep=deep)

    def components_of(self, recordings: Sequence[Recording]) -> Sequence[str]:
        """Return the modalities that any of the recordings has, and those without which there are no samples."""
        return modalities_in([_of_release(recording) for recording in recordings])


def _of_release(recording: Recording) -> ReleaseRecording:
    assert isinstance(recording, ReleaseRecording)
    return recording
