"""All figures of the project: one function per figure, from data to a matplotlib Figure, in one style."""

from lib.report.figures.agreement import agreement_scatter as agreement_scatter
from lib.report.figures.agreement import bland_altman as bland_altman
from lib.report.figures.agreement import paired_differences as paired_differences
from lib.report.figures.agreement import volume_agreement as volume_agreement
from lib.report.figures.budget import error_budget as error_budget
from lib.report.figures.charts import epoch_profile as epoch_profile
from lib.report.figures.charts import feature_sizes as feature_sizes
from lib.report.figures.charts import folds as folds
from lib.report.figures.charts import overfit as overfit
from lib.report.figures.charts import sizes as sizes
from lib.report.figures.charts import training_curves as training_curves
from lib.report.figures.scores import confusion as confusion
from lib.report.figures.scores import dice_bars as dice_bars
from lib.report.figures.scores import dice_distribution as dice_distribution
from lib.report.figures.scores import hd95_distribution as hd95_distribution
from lib.report.figures.scores import landmark_errors as landmark_errors
from lib.report.figures.sheets import augmentations as augmentations
from lib.report.figures.sheets import close_ups as close_ups
from lib.report.figures.sheets import heatmaps as heatmaps
from lib.report.figures.sheets import landmark_overlays as landmark_overlays
from lib.report.figures.sheets import overlays as overlays
from lib.report.figures.sheets import preprocessing as preprocessing
from lib.report.figures.sheets import probability as probability
from lib.report.figures.sheets import samples as samples
from lib.report.figures.style import save as save
