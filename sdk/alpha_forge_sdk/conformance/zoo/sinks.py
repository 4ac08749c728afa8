"""Sinks that each break one promise, and correct ones of every form and guarantee."""

from __future__ import annotations

from alpha_forge.contracts.plugin import Sink
from alpha_forge_sdk.conformance.case import Conformance, SinkConformance
from alpha_forge_sdk.conformance.zoo import Specimen
from alpha_forge_sdk.conformance.zoo import sink_defects as defects
from alpha_forge_sdk.conformance.zoo import sink_failures as failures
from alpha_forge_sdk.conformance.zoo import sink_files as files
from alpha_forge_sdk.conformance.zoo import sink_network as network
from alpha_forge_sdk.conformance.zoo.sink_table import TableCase


def _case(sink: type[Sink], base: type[SinkConformance] = files.LinesCase) -> type[Conformance]:
    return type(f"{sink.__name__}Case", (base,), {"plugin": sink, "__module__": __name__})


def _tcp(sink: type[Sink]) -> type[Conformance]:
    return _case(sink, network.LinesOverTcpCase)


BROKEN: tuple[Specimen, ...] = (
    Specimen(_case(defects.StoresNothing), "AF-S01", "read_back() gives none"),
    Specimen(_case(defects.ClaimsOnceWithoutKey), "AF-S02", "idempotent_by is empty"),
    Specimen(_case(defects.CreatesFileInPreflight), "AF-S03", "it made predictions.jsonl"),
    Specimen(_case(defects.DropsBeyondTwentyFive), "AF-S04", "a batch of 26: 1 of 26 records are missing"),
    Specimen(_case(defects.DropsLastBatch), "AF-S04", "a batch of 1: 1 of 1 records are missing"),
    Specimen(_case(defects.EmitForgetsMetadata), "AF-S06", "only emit stored"),
    Specimen(_case(defects.AcksBeforeWrite), "AF-S05", "right after a batch of 7, before close()"),
    Specimen(_tcp(network.SendsWithoutWaiting), "AF-S05", "right after a batch of 7, before close()"),
    Specimen(_case(defects.WritesInBackground), "AF-S05", "records are missing"),
    Specimen(_case(defects.SortsBySymbol), "AF-S07", "in place 0 it holds ('ADAUSDT'"),
    Specimen(_case(defects.EmptiesTheBatch), "AF-S08", "a batch of 9 held 0 record(s)"),
    Specimen(_case(defects.TruncatesWhenOpened), "AF-S09", "life 2"),
    Specimen(_case(defects.SkipsOlderThanNewest), "AF-S10", "5 of 20 records are missing"),
    Specimen(_case(defects.RoundsToFloat32), "AF-S11", "5e-324), found"),
    Specimen(_case(defects.PrintsFifteenDigits), "AF-S11", "2.225073858507201e-308), found"),
    Specimen(_case(defects.LosesSignOfZero), "AF-S11", "-0.0), found"),
    Specimen(_case(defects.LosesMicroseconds), "AF-S12", "13:00:00.000001+00:00"),
    Specimen(_case(defects.StoresLocalTime), "AF-S12", "found ('BTCUSDT', 2026-01-05T08:00:00"),
    Specimen(_case(defects.FoldsCase), "AF-S13", "'btcusdt'"),
    Specimen(_case(defects.DropsMetadata), "AF-S13", "'dag_name'"),
    Specimen(_case(defects.StoresNanAsZero), "AF-S14", "nan), found"),
    Specimen(_case(defects.DuplicatesOnRetry), "AF-S15", "the same record in two batches"),
    Specimen(_case(defects.ForgetsItsOwnBatch), "AF-S16", "a batch of a, b, a, c, c"),
    Specimen(_case(defects.RemembersKeysInMemory), "AF-S17", "the same batch in two lives"),
    Specimen(_case(defects.ReadsKeysOnlyAtOpen), "AF-S18", "two open instances"),
    Specimen(_case(defects.KeepsThoughItSaysReplace), "AF-S19", 'on_conflict = "replace"'),
    Specimen(_case(failures.SwallowsErrors), "AF-S20", "and emit_batch returned"),
    Specimen(_case(failures.WritesHalfAndGoesOn), "AF-S20", "read_back() raised"),
    Specimen(_case(failures.RejectsOnFault), "AF-S20", "a fault is no rejection"),
    Specimen(_case(failures.RejectsTheWholeBatch), "AF-S21", "rejected were the indices [0, 1, 2"),
    Specimen(_case(failures.StopsAtTheCulprit), "AF-S21", "records are missing"),
    Specimen(_case(failures.TearsRecordWhenKilled), "AF-S22", "killed after"),
    Specimen(_case(failures.StaysLockedWhenKilled), "AF-S22", "another process has locked the file"),
    Specimen(_case(failures.StaysLockedWhenKilledInOpen), "AF-S23", "another process has locked the file"),
    Specimen(_case(failures.RewritesFileInClose), "AF-S23", "killed in close(), after truncate"),
    Specimen(_case(failures.RaisesOnSecondClose), "AF-S24", "close() without open() raised"),
    Specimen(_case(failures.IgnoresRecordsWhenClosed), "AF-S25", "as if all were well"),
    Specimen(_case(failures.StumblesWhenClosed), "AF-S25", "an accident, not an answer"),
    Specimen(_case(failures.LeaksSocket), "AF-S26", "open socket:"),
    Specimen(_case(failures.LeaksThread), "AF-S26", "thread 'flusher'"),
    Specimen(_case(failures.LeaksFile), "AF-S26", "predictions.jsonl"),
    Specimen(_tcp(network.LeaksSocketWhenRefused), "AF-S26", "refused every connection left"),
    Specimen(_case(failures.SharesItsFile), "AF-S27", "two instances got records in turn"),
    Specimen(network.HidesItsDestinationCase, "AF-S28", "names no destination()"),
    Specimen(_tcp(network.SwallowsConnectionErrors), "AF-S29", "as if all were well"),
    Specimen(_tcp(network.WaitsForEver), "AF-S30", "did not end within"),
    Specimen(_tcp(network.CountsSentAsStored), "AF-S31", "and emit_batch returned"),
)

CORRECT: tuple[type[Conformance], ...] = (
    _case(files.JsonLines),
    _case(files.SingleLines),
    _case(files.AsyncLines),
    _case(files.FiniteLines),
    _case(files.FirstValueLines),
    TableCase,
    _tcp(network.LineClient),
)
