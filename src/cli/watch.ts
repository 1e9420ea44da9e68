/**
 * Looks at a primary once a second, until Ctrl-C or until whoever reads has gone.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { call } from './client.ts';
import { renderWatched, type Watched } from './watched.ts';

const EVERY_MS = 1000;
/** Where output is no terminal, or one that does not tell. */
const SMALL = { columns: 80, rows: 24 };
const CLEAR = '\u001b[2J';
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

/** With `json` a line of `/status` for each look. */
export async function watchStatus(socket: string, json: boolean): Promise<number> {
  const { stdout } = process;
  let hasGone = false;
  stdout.once('error', () => {
    hasGone = true; // as of `bosun status --watch | head`
  });
  if (!json) stdout.write(CLEAR);
  while (!hasGone) {
    const watched = (await call(socket, 'watch')) as Watched;
    // Over the last one, line by line: a screen that is cleared first flickers.
    stdout.write(
      json ? `${JSON.stringify(watched.status)}\n` : onScreen(renderWatched(watched, { ...SMALL, ...sizeOf(stdout) })),
    );
    await sleep(EVERY_MS);
  }
  return 0;
}

function sizeOf({ columns, rows }: NodeJS.WriteStream) {
  return { ...(columns > 0 && { columns }), ...(rows > 0 && { rows }) };
}

function onScreen(text: string): string {
  return `${HOME}${text.replaceAll('\n', `${CLEAR_LINE}\n`)}${CLEAR_LINE}\n${CLEAR_BELOW}`;
}
