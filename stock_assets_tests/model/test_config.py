import pytest

from stock_assets.errors import SettingsError
from stock_assets.model.config import DeepArConfig, NetworkConfig, RnnConfig


def test_a_configuration_survives_its_dictionary():
    config = RnnConfig(hidden=32, dropout=0.25)
    assert RnnConfig.from_dict(config.to_dict()) == config
    assert isinstance(config, NetworkConfig)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden", 0),
        ("context", 0),
        ("epochs", -1),
        ("dropout", 1.0),
        ("learning_rate", 0.0),
        ("weight_decay", -1),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: float):
    with pytest.raises(SettingsError, match=rf"RnnConfig\.{field}={value}; expected"):
        RnnConfig.from_dict({field: value})


def test_an_error_names_the_configuration():
    with pytest.raises(SettingsError, match=r"DeepArConfig\.batch=0; expected 1 or more"):
        DeepArConfig(batch=0)
