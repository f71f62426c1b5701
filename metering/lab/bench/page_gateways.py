"""The sections of docs/performance.md about what runs beside streams: the gateway and the emitter."""

from metering.lab.bench.emitter import EmitterReport
from metering.lab.bench.gateway import GatewayReport
from metering.lab.bench.page_blocks import markdown_table, section
from metering.lab.bench.resume import ResumeReport


def gateway_section(report: GatewayReport) -> list[str]:
    what = (
        "Chunks that come alone, from an upstream through each target to its clients, in one run and on the same "
        "cores. Latency is from the upstream's write to the client's read of each chunk; the first chunk is timed "
        "from the request. The floor is a pass-through in Python that copies bytes between two sockets."
    )
    table = markdown_table(
        "target | streams x tokens/s | chunks/s | p50 ms | p99 ms | first chunk p50, p99 ms | CPU us per chunk | "
        "x the floor",
        (
            f"{row.what} | {row.streams} x {row.rate} | {row.chunks_per_second:,.0f} | {row.p50_ms:.2f} "
            f"| {row.p99_ms:.1f} | {row.first_p50_ms:.1f}, {row.first_p99_ms:.0f} "
            f"| {row.cpu_microseconds_per_chunk:.0f} "
            f"| {'' if row.cpu_ratio is None else f'{row.cpu_ratio:.1f}'}"
            for row in report.rows
        ),
        texts=2,
    )
    return section("Gateway", report.machine, what, table)


def resume_section(report: ResumeReport) -> list[str]:
    table = markdown_table(
        " | first chunk p50 ms | p99 ms | ratio | chunks p50 ms | p99 ms "
        "| CPU us per chunk: gateway, Valkey | ratio",
        (
            f"{row.what} | {row.first_p50_ms:.1f} | {row.first_p99_ms:.0f} | {row.first_ratio:.1f} "
            f"| {row.p50_ms:.2f} | {row.p99_ms:.1f} "
            f"| {row.gateway_microseconds:.0f}, {row.valkey_microseconds:.0f} | {row.cpu_ratio:.2f}"
            for row in report.rows
        ),
    )
    followed = report.rows[-1]
    note = (
        f"{report.streams} streams of {report.rate} tokens a second, one worker; medians of {report.rounds} turns"
        " of each kind. Ratios are to the same gateway without the header: of the first chunk at p50, and of"
        " the gateway's CPU time. The second reader comes half a second later and gets the whole text:"
        f" its first chunk after {followed.follower_first_p50_ms or 0:.1f} ms, later ones"
        f" {followed.follower_p50_ms or 0:.0f} ms after the upstream wrote them (p50), because Valkey is written"
        f" every 20 ms. The load of the machine was {report.load:.1f}."
    )
    return section("Resume", report.machine, table, note)


def emitter_section(report: EmitterReport) -> list[str]:
    table = markdown_table(
        "call | loop | calls | p50 us | p99 us | p99.9 us",
        (
            f"{row.call} | {row.loop} | {row.calls:,} | {row.p50:.2f} | {row.p99:.2f} | {row.p999:.2f}"
            for row in report.rows
        ),
        texts=2,
    )
    note = (
        "`emit` takes an event that is made already; `delivered` and `take` are methods of `Emitter.stream`, and"
        " emit a token-delivered every 16 tokens. The floor is an append to a queue under a lock. The emitter's"
        f" threads write to disk and send meanwhile; {report.dropped:,} events were dropped. Ratio of `emit` to"
        f" the floor: {report.ratio:.1f} at p50 in the tight loop, {report.paced_ratio:.1f} at p99 once a"
        f" millisecond, where the calls take turns. The load of the machine was {report.load:.1f}."
    )
    return section("Emitter", report.machine, table, note)
