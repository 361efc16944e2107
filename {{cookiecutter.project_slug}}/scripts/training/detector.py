"""The task that Model Garden trains: its RetinaNet with our backbone, input and crowd rule.

Importing this module registers the experiment type `detector`.
"""

import dataclasses

from official.common import dataset_fn
from official.core import config_definitions, exp_factory, task_factory
from official.vision.configs import retinanet as retinanet_cfg
from official.vision.dataloaders import input_reader, input_reader_factory
from official.vision.tasks import retinanet

from scripts.training import backbone as backbone_module
from scripts.training.inputs import DetectorDecoder, DetectorParser


@dataclasses.dataclass
class DetectorModel(retinanet_cfg.RetinaNet):
    """Model Garden's RetinaNet whose backbone may be ours."""

    backbone: backbone_module.Backbone = dataclasses.field(default_factory=backbone_module.Backbone)


@dataclasses.dataclass
class DetectorTaskConfig(retinanet_cfg.RetinaNetTask):
    """`task` of `training/experiment.yaml`."""

    model: DetectorModel = dataclasses.field(default_factory=DetectorModel)


@exp_factory.register_config_factory("detector")
def detector_experiment() -> config_definitions.ExperimentConfig:
    """The empty experiment that `configure` fills."""
    return config_definitions.ExperimentConfig(task=DetectorTaskConfig())


@task_factory.register_task_cls(DetectorTaskConfig)
class DetectorTask(retinanet.RetinaNetTask):
    """Training and validation steps of a detector; losses and metrics are Model Garden's."""

    def build_inputs(self, params, input_context=None):
        """Batches of (float32 [batch, size, size, 3] in -1..1, labels); pictures are stretched to the input size."""
        decoder = DetectorDecoder(difficult_is_crowd=not params.is_training)
        parser = self._parser(params)
        reader = input_reader_factory.input_reader_generator(
            params,
            dataset_fn=dataset_fn.pick_dataset_fn(params.file_type),
            decoder_fn=decoder.decode,
            combine_fn=input_reader.create_combine_fn(params),
            parser_fn=parser.parse_fn(params.is_training),
        )
        return reader.read(input_context=input_context)

    def _parser(self, params):
        model, parser = self.task_config.model, params.parser
        return DetectorParser(
            output_size=model.input_size[:2],
            min_level=model.min_level,
            max_level=model.max_level,
            num_scales=model.anchor.num_scales,
            aspect_ratios=model.anchor.aspect_ratios,
            anchor_size=model.anchor.anchor_size,
            dtype=params.dtype,
            match_threshold=parser.match_threshold,
            unmatched_threshold=parser.unmatched_threshold,
            box_coder_weights=model.detection_generator.box_coder_weights,
            aug_type=parser.aug_type,
            aug_rand_hflip=parser.aug_rand_hflip,
            aug_rand_jpeg=parser.aug_rand_jpeg,
            aug_scale_min=parser.aug_scale_min,
            aug_scale_max=parser.aug_scale_max,
            skip_crowd_during_training=parser.skip_crowd_during_training,
            max_num_instances=parser.max_num_instances,
            pad=parser.pad,
            keep_aspect_ratio=parser.keep_aspect_ratio,
        )
