"""A client that streams until somebody pulls its cable: `python faint.py URL`. It says `streaming`, and waits."""

import asyncio
import sys

from streamer.client import Started, connect


async def main(url: str) -> None:
    async with connect(url) as stream:
        await stream.send(bytes(32_000))
        async for event in stream:
            if isinstance(event, Started):
                break
        print("streaming", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
