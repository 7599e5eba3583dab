"""Public studies of persons and outcomes, read from Parquet below RECSYS_DATA, a file each.

physionet2012-icu     data.public.physionet_icu: does the patient die in hospital?
danish-diabetes       data.public.danish_diabetes: a register of patients
skelleftea-children   data.public.skelleftea: families, a case a newborn
skelleftea-births     data.public.skelleftea: women, a case a birth

What a reader must not give a model is left out there: scores and lengths of stay, the end of
follow-up (a column `exit` for censoring, never an event), ages above 90 that betray survivors.
"""

from data.life import LifeTables
from data.life_config import LifeStudy
from data.public.danish_diabetes import read_register
from data.public.physionet_icu import read_stays
from data.public.skelleftea import read_births, read_children

READERS = {
    "physionet2012-icu": read_stays,
    "danish-diabetes": read_register,
    "skelleftea-children": read_children,
    "skelleftea-births": read_births,
}


def load_study(config: LifeStudy) -> LifeTables:
    """The tables of a study; raises InputError when its folder is not there."""
    return READERS[config.source]()
