"""The calls of a session in Streamlit, over the API alone: neither the store nor a model is opened.

    pip install 'stock_assets[streamlit]'
    streamlit run examples/streamlit_app.py

STOCK_ASSETS_API_URL names another server than http://127.0.0.1:8000, and STOCK_ASSETS_API_TOKEN its token.
"""

import os

import polars as pl
import streamlit as st

import stock_assets

PROBABILITIES = ["p_sell", "p_hold", "p_buy"]

st.set_page_config("stock_assets", layout="wide")
client = stock_assets.Client(os.environ.get("STOCK_ASSETS_API_URL"), token=os.environ.get("STOCK_ASSETS_API_TOKEN"))
try:
    models = client.models()
    published = client.publications()
    in_service = models["model"].to_list().index(models.filter("in_service")["model"].item())
    model = st.sidebar.selectbox("model", models["model"].to_list(), index=in_service)
    session = st.sidebar.date_input(
        "session", published["last_session"].max(), published["first_session"].min(), published["last_session"].max()
    )
    state = client.sessions(session)
    if state.status != "published":
        st.warning(f"{session}: {state.reason}")
        st.stop()
    rows = client.predictions(session, model=model).filter(pl.col("status") == "predicted")
    sign = client.prediction(rows["ticker"][0], session, model=model)
    score = client.monitoring("score")
except stock_assets.ApiError as error:
    st.error(str(error))
    st.stop()

st.title(f"{model} of {session}")
if sign.simulated:
    st.warning("SIMULATED market: no real prices")
st.caption(f"published {sign.published_at:%Y-%m-%d %H:%M} UTC by {sign.model_version}")

best = score.filter((pl.col("model") == model) | pl.col("naive")).sort("naive")
st.subheader("How far to trust it")
st.dataframe(best.select("model", "log_loss", "low", "high", "accuracy"), hide_index=True)

buys, sells = st.columns(2)
ranked = rows.sort("rank").select("rank", "ticker", "score", *PROBABILITIES)
buys.subheader("Strongest buys")
buys.dataframe(ranked.head(20), hide_index=True)
sells.subheader("Strongest sells")
sells.dataframe(ranked.tail(20).reverse(), hide_index=True)

ticker = st.selectbox("ticker", rows["ticker"].to_list())
st.line_chart(client.history(ticker, model=model), x="session", y=PROBABILITIES)
