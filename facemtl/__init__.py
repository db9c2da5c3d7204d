"""facemtl: PyTorch blocks for face models that do several things at once."""

from facemtl._core.checks import ShapeError, value_checks
from facemtl._core.pixels import to_model_input, to_uint8
from facemtl._core.version import __version__
from facemtl.alignment.detection import Detections, FaceDetector, detect_faces, images_without_faces, select_faces
from facemtl.alignment.masks import face_mask
from facemtl.alignment.mtcnn import MTCNNDetector
from facemtl.alignment.paste_back import paste_back
from facemtl.alignment.similarity import (
    LandmarkProblem,
    Similarity,
    estimate_similarity,
    invert_similarity,
    transform_points,
)
from facemtl.alignment.templates import FaceTemplate
from facemtl.alignment.warp import AlignedFaces, FaceAligner
from facemtl.alignment.yunet import YuNetDetector
from facemtl.data.align_folder import align_folder
from facemtl.data.align_report import AlignmentInterrupted, AlignmentReport
from facemtl.data.align_settings import AlignSettings
from facemtl.data.balance import BalancedSubset, balance_manifest
from facemtl.data.balanced_sampler import BalancedSampler
from facemtl.data.broken_images import BrokenCount, BrokenImageError
from facemtl.data.contact_sheet import draw_contact_sheets
from facemtl.data.datasets import FaceDataset
from facemtl.data.estimators import MTLFaceEstimator, OnnxEstimator
from facemtl.data.identity_map import check_identity_map, load_identity_map, save_identity_map
from facemtl.data.identity_sampler import IdentitySampler
from facemtl.data.join_labels import JoinedLabels, join_labels
from facemtl.data.joined_faces import JoinedFaces
from facemtl.data.label import label_manifest
from facemtl.data.landmark_lists import ListedFace, read_landmark_list
from facemtl.data.manifest import Manifest, read_manifest
from facemtl.data.manifest_problems import ManifestError, ManifestProblem
from facemtl.data.name_labels import manifest_from_names
from facemtl.data.pack_records import PackedRecords, pack_records
from facemtl.data.photographs import PhotographError, read_photograph
from facemtl.data.record_dataset import RecordDataset
from facemtl.data.record_format import RecordError
from facemtl.data.record_subset import RecordSubset
from facemtl.data.record_writer import RecordWriter
from facemtl.data.records import RecordFile
from facemtl.data.samples import FaceBatch, FaceSample, collate_faces
from facemtl.data.shuffled_sampler import ShuffledSampler
from facemtl.data.statistics import ManifestStatistics, manifest_statistics
from facemtl.data.statistics_figure import draw_statistics
from facemtl.data.synthetic.faces import SyntheticFaces
from facemtl.data.synthetic.folder import SynthesisSettings, synthesize_folder
from facemtl.data.synthetic.renderer import FaceRenderer
from facemtl.data.target_group_sampler import TargetGroupSampler
from facemtl.data.target_groups import TargetGroupBatch, TargetGroupCollator
from facemtl.data.transforms import random_flip
from facemtl.data.verification_sets import VerificationSet, read_verification_set, write_verification_set
from facemtl.heads.adaptive import AdaFace, MagFace
from facemtl.heads.age import AgeHead, AgePrediction
from facemtl.heads.combined import CombinedMargin
from facemtl.heads.cross_entropy import cosine_cross_entropy
from facemtl.heads.curricular import CurricularFace
from facemtl.heads.margin import ArcFace, CosFace
from facemtl.heads.ordinal_age import CoralAgeHead, CornAgeHead
from facemtl.heads.sharded import ShardedArcFace, ShardedCosFace
from facemtl.layers.age import AgeGroups, expected_age
from facemtl.layers.attention import ChannelAttention, ChannelSpatialAttention, SpatialAttention
from facemtl.layers.attribute_decomposition import DecomposedAttributes, MultiAttributeDecomposition
from facemtl.layers.cbam import CBAM
from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.layers.conditional_multiscale import MultiScaleIdentityConditionalModule
from facemtl.layers.decomposition import AttentionFeatureDecomposition, DecomposedFeatures
from facemtl.layers.embedding import EmbeddingHead
from facemtl.layers.inference import fold_batch_norms
from facemtl.layers.one_hot_condition import OneHotCondition
from facemtl.layers.ordinal import coral_age, corn_age
from facemtl.layers.pyramid_pool import pyramid_pool
from facemtl.layers.reversal import GradientReversal, dann_strength, reverse_gradient
from facemtl.layers.upsample import DecoderLevel
from facemtl.losses.adversarial import HingeAdversarialLoss, LeastSquaresAdversarialLoss, NonSaturatingAdversarialLoss
from facemtl.losses.age import AgeCrossEntropyLoss, AgeEstimationLoss
from facemtl.losses.age_distribution import LabelDistributionLoss, MeanVarianceLoss
from facemtl.losses.ordinal import CoralLoss, CornLoss
from facemtl.networks.aging_generator import AgingGenerator
from facemtl.networks.iresnet import IRBackbone, IRFeatures, IRResNet, PyramidFeatures
from facemtl.networks.mtlface import EncodedFaces, FaceEstimates, MTLFace
from facemtl.networks.mtlface_presets import MTLFaceOptions
from facemtl.networks.patch_discriminator import PatchDiscriminator
from facemtl.networks.projected_backbone import ProjectedBackbone
from facemtl.networks.released.load import load_released_weights
from facemtl.networks.released.renaming import ReleasedWeightsError

__all__ = [
    "CBAM",
    "AdaFace",
    "AgeCrossEntropyLoss",
    "AgeEstimationLoss",
    "AgeGroups",
    "AgeHead",
    "AgePrediction",
    "AgingGenerator",
    "AlignSettings",
    "AlignedFaces",
    "AlignmentInterrupted",
    "AlignmentReport",
    "ArcFace",
    "AttentionFeatureDecomposition",
    "BalancedSampler",
    "BalancedSubset",
    "BrokenCount",
    "BrokenImageError",
    "ChannelAttention",
    "ChannelSpatialAttention",
    "CombinedMargin",
    "CoralAgeHead",
    "CoralLoss",
    "CornAgeHead",
    "CornLoss",
    "CosFace",
    "CurricularFace",
    "DecoderLevel",
    "DecomposedAttributes",
    "DecomposedFeatures",
    "Detections",
    "EmbeddingHead",
    "EncodedFaces",
    "FaceAligner",
    "FaceBatch",
    "FaceDataset",
    "FaceDetector",
    "FaceEstimates",
    "FaceRenderer",
    "FaceSample",
    "FaceTemplate",
    "GradientReversal",
    "HingeAdversarialLoss",
    "IRBackbone",
    "IRFeatures",
    "IRResNet",
    "IdentityConditionalModule",
    "IdentitySampler",
    "JoinedFaces",
    "JoinedLabels",
    "LabelDistributionLoss",
    "LandmarkProblem",
    "LeastSquaresAdversarialLoss",
    "ListedFace",
    "MTCNNDetector",
    "MTLFace",
    "MTLFaceEstimator",
    "MTLFaceOptions",
    "MagFace",
    "Manifest",
    "ManifestError",
    "ManifestProblem",
    "ManifestStatistics",
    "MeanVarianceLoss",
    "MultiAttributeDecomposition",
    "MultiScaleIdentityConditionalModule",
    "NonSaturatingAdversarialLoss",
    "OneHotCondition",
    "OnnxEstimator",
    "PackedRecords",
    "PatchDiscriminator",
    "PhotographError",
    "ProjectedBackbone",
    "PyramidFeatures",
    "RecordDataset",
    "RecordError",
    "RecordFile",
    "RecordSubset",
    "RecordWriter",
    "ReleasedWeightsError",
    "ShapeError",
    "ShardedArcFace",
    "ShardedCosFace",
    "ShuffledSampler",
    "Similarity",
    "SpatialAttention",
    "SynthesisSettings",
    "SyntheticFaces",
    "TargetGroupBatch",
    "TargetGroupCollator",
    "TargetGroupSampler",
    "VerificationSet",
    "YuNetDetector",
    "__version__",
    "align_folder",
    "balance_manifest",
    "check_identity_map",
    "collate_faces",
    "coral_age",
    "corn_age",
    "cosine_cross_entropy",
    "dann_strength",
    "detect_faces",
    "draw_contact_sheets",
    "draw_statistics",
    "estimate_similarity",
    "expected_age",
    "face_mask",
    "fold_batch_norms",
    "images_without_faces",
    "invert_similarity",
    "join_labels",
    "label_manifest",
    "load_identity_map",
    "load_released_weights",
    "manifest_from_names",
    "manifest_statistics",
    "pack_records",
    "paste_back",
    "pyramid_pool",
    "random_flip",
    "read_landmark_list",
    "read_manifest",
    "read_photograph",
    "read_verification_set",
    "reverse_gradient",
    "save_identity_map",
    "select_faces",
    "synthesize_folder",
    "to_model_input",
    "to_uint8",
    "transform_points",
    "value_checks",
    "write_verification_set",
]
