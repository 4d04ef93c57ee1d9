import pytest

from stock_assets.errors import SettingsError
from stock_assets.model.config import DeepArConfig, NetworkConfig, RnnConfig


def test_a_configuration_survives_its_dictionary():
    config = RnnConfig(hidden=32, dropout=0.25)
    assert RnnConfig.from_dict(config.to_dict()) == config
    assert isinstance(config, NetworkConfig)


def test_a_configuration_from_before_there_was_a_stride_reads_neighbouring_rows():
    stored = RnnConfig().to_dict() | {"steps": 16, "segment": 16}
    del stored["stride"]
    assert (RnnConfig.from_dict(stored).stride, RnnConfig.from_dict(stored).reach) == (1, 16)


def test_windows_longer_than_the_context_are_refused():
    assert RnnConfig(context=49).reach == 49
    with pytest.raises(SettingsError, match=r"RnnConfig\.steps=4; expected .* no longer than the context"):
        RnnConfig(context=48)


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
