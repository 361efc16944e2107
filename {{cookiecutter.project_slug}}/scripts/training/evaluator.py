"""The scorer of validation: what pycocotools matched and counted stays there for more than twelve figures."""

from official.vision.evaluation import coco_evaluator


class KeptEvaluator(coco_evaluator.COCOEvaluator):
    """Model Garden's scorer, which keeps pycocotools' `evaluation` of the whole split until it is taken."""

    def __init__(self, annotation_file: str | None, max_num_eval_detections: int):
        super().__init__(annotation_file, include_mask=False, per_category_metrics=True,
                         max_num_eval_detections=max_num_eval_detections)
        self.evaluation = None

    def _retrieve_per_category_metrics(self, coco_eval, prefix=""):
        # Model Garden's own figures by class need a pycocotools that is not the published one.
        self.evaluation = coco_eval
        return {}
