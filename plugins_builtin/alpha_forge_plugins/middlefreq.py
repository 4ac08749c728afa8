"""The pack ``middlefreq``: technical features and the BiLSTM model. Strings only: discovery stays cheap."""

from __future__ import annotations

from alpha_forge_sdk import hookimpl


@hookimpl
def alpha_forge_features() -> dict[str, str]:
    return {
        "atr": "alpha_forge_plugins.features.volatility:ATR",
        "bollinger": "alpha_forge_plugins.features.volatility:Bollinger",
        "cross_rank": "alpha_forge_plugins.features.panel:CrossRank",
        "ema": "alpha_forge_plugins.features.averages:EMA",
        "ma_rocp": "alpha_forge_plugins.features.averages:MARocp",
        "macd": "alpha_forge_plugins.features.momentum:MACD",
        "momentum": "alpha_forge_plugins.features.momentum:Momentum",
        "rsi": "alpha_forge_plugins.features.momentum:RSI",
        "sma": "alpha_forge_plugins.features.averages:SMA",
        "support_resistance": "alpha_forge_plugins.features.levels:SupportResistance",
        "volatility": "alpha_forge_plugins.features.volatility:Volatility",
        "volume_ratio": "alpha_forge_plugins.features.volume:VolumeRatio",
        "zscore": "alpha_forge_plugins.features.levels:ZScore",
    }


@hookimpl
def alpha_forge_models() -> dict[str, str]:
    return {"pytorch_bilstm_predictor": "alpha_forge_plugins.models.pytorch_bilstm_predictor:BiLSTMPredictor"}


@hookimpl
def alpha_forge_conformance() -> dict[str, str]:
    return {"models.pytorch_bilstm_predictor": "alpha_forge_plugins.conformance.models:BiLSTMConformance"}
