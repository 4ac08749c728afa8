"""Data sources whose history is not what it seems when something goes wrong: each breaks one of AF-D18 … AF-D23."""

from __future__ import annotations

import asyncio
import json
import zlib

from alpha_forge.contracts.errors import SourceError
from alpha_forge.contracts.types import Bar
from alpha_forge_sdk.conformance.zoo import Specimen
from alpha_forge_sdk.conformance.zoo.source_exchange import NS, Refused, ServerError
from alpha_forge_sdk.conformance.zoo.source_tape import ATTEMPTS, PATIENCE, TapeSource, case_of


class TrustsCutAnswer(TapeSource):
    """Takes what there is of an answer for all of it."""

    async def paged(self, symbol: str, start: int, end: int) -> list[Bar]:
        for attempt in range(ATTEMPTS):
            await self.permitted()
            try:
                return (await self.opened().page(symbol, start, end)).bars
            except ServerError:
                await asyncio.sleep(0.002 * 2**attempt)
            except Refused as refused:
                self.refused_until = refused.until
        raise SourceError("AF5001", "no answer", "try again later")


class GivesUpAtFirstError(TapeSource):
    """Leaves it to others to ask again."""

    async def paged(self, symbol: str, start: int, end: int) -> list[Bar]:
        await self.permitted()
        try:
            return (await self.opened().page(symbol, start, end)).bars
        except ServerError as error:
            raise SourceError("AF5001", f"no answer: {error}", "try again later") from error
        except Refused as refused:
            self.refused_until = refused.until
            return await self.paged(symbol, start, end)


class HurriesWhenRefused(TapeSource):
    """Asks again at once when it is told to wait, and is soon at the end of its attempts."""

    async def permitted(self) -> None:
        if self.refused_until - self.opened().time() > PATIENCE:
            await super().permitted()


class TakesErrorForNothing(TapeSource):
    """Has no bars when it could not get any."""

    async def paged(self, symbol: str, start: int, end: int) -> list[Bar]:
        try:
            return await super().paged(symbol, start, end)
        except SourceError as error:
            if error.code == "AF5002":
                raise
            return []


class AsksDuringBan(TapeSource):
    """Takes a ban for the usual refusal of a busy minute."""

    async def permitted(self) -> None:
        self.refused_until = min(self.refused_until, self.opened().time() + NS)
        await super().permitted()


class ForgetsBan(TapeSource):
    """Tells its caller of a ban, and the next caller may try."""

    async def paged(self, symbol: str, start: int, end: int) -> list[Bar]:
        try:
            return await super().paged(symbol, start, end)
        finally:
            self.refused_until = 0


class SkipsMissingFile(TapeSource):
    """Takes a file that is missing for a time without trades."""

    async def filed(self, symbol: str, number: int) -> list[Bar] | None:
        try:
            await self.opened().file(symbol, number)
        except FileNotFoundError:
            return []
        return await super().filed(symbol, number)


class SkipsChecksum(TapeSource):
    """Believes what it has downloaded."""

    async def filed(self, symbol: str, number: int) -> list[Bar] | None:
        try:
            file = await self.opened().file(symbol, number)
            return [Bar(*row) for row in json.loads(file.body)]
        except (FileNotFoundError, ValueError):
            return None


class DiesOfDamagedFile(TapeSource):
    """Takes for granted that a file with the right checksum can be read."""

    async def filed(self, symbol: str, number: int) -> list[Bar] | None:
        try:
            file = await self.opened().file(symbol, number)
        except FileNotFoundError:
            return None
        return (
            [Bar(*row) for row in json.loads(file.body)] if zlib.crc32(file.body) == file.checksum else None
        )


class DeclaresNoLag(TapeSource):
    """Says that history has every bar at its close, which this exchange's has some time later."""

    history_lag = 0.0


class BelievesOurClock(TapeSource):
    """Takes the time of this machine for the exchange's."""

    async def passed(self, instant: int, now: int) -> int:
        return min(instant, now)


class TriesOnWhenCancelled(TapeSource):
    """Takes its cancellation for one more fault of the server."""

    async def paged(self, symbol: str, start: int, end: int) -> list[Bar]:
        for _ in range(ATTEMPTS):
            await self.permitted()
            try:
                return await self._page(symbol, start, end)
            except BaseException as error:
                if not isinstance(error, ServerError | asyncio.CancelledError | Refused):
                    raise
                if isinstance(error, Refused):
                    self.refused_until = error.until
        raise SourceError("AF5001", "no answer", "try again later")

    async def _page(self, symbol: str, start: int, end: int) -> list[Bar]:
        try:
            page = await self.opened().page(symbol, start, end)
        except ServerError:
            await asyncio.sleep(0.3)
            raise
        if len(page.bars) < page.sent:
            raise ServerError("cut off")
        return page.bars


BROKEN: tuple[Specimen, ...] = (
    Specimen(case_of(TrustsCutAnswer), "AF-D18", "with truncated history misses no bar"),
    Specimen(case_of(GivesUpAtFirstError), "AF-D18", "no answer: 503"),
    Specimen(case_of(HurriesWhenRefused), "AF-D18", "rate_limited, 1 time(s)"),
    Specimen(case_of(TakesErrorForNothing), "AF-D19", "with a server_error that lasts history misses no bar"),
    Specimen(case_of(AsksDuringBan), "AF-D20", "time(s) all the same"),
    Specimen(case_of(ForgetsBan), "AF-D20", "time(s) all the same"),
    Specimen(case_of(SkipsMissingFile), "AF-D21", "with missing_file history misses no bar"),
    Specimen(case_of(SkipsChecksum), "AF-D21", "with wrong_checksum history brings closed bars as they are"),
    Specimen(case_of(DiesOfDamagedFile), "AF-D21", "with corrupt_file it raised JSONDecodeError"),
    Specimen(case_of(DeclaresNoLag), "AF-D22", "with history_lag"),
    Specimen(case_of(BelievesOurClock), "AF-D22", "with clock_off"),
    Specimen(
        case_of(TriesOnWhenCancelled), "AF-D23", "with server_error a cancelled history() ends within 1 s"
    ),
)
