/**
 * The inspector of a worker under `bosun dev --inspect`. Each worker takes over the port of the one that it replaces, so that a debugger finds the
 * new one where it left the old one: the old one closes its inspector, and this one opens as soon as the port is free.
 */
import inspector from 'node:inspector';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { InspectorAddress } from '../config/inherited.ts';
import { hostAndPort } from '../config/parse.ts';
import type { LogSource } from '../log/log.ts';

const RETRY_MS = 20;
/** A worker that is paused or busy does not close its inspector: then the app loads, and the inspector opens later. */
const MAX_DELAY_MS = 300;
/** A port that is in use for this long belongs to another program. */
const REPORT_AFTER_MS = 3000;

/** The last address that was requested; undefined for none. */
let wanted: InspectorAddress | undefined;

/** Opens the inspector there, or closes it. Resolves when that is done, or superseded. Warns if another program has the port. */
export async function setInspector(at: InspectorAddress | undefined, log: LogSource): Promise<void> {
  wanted = at;
  inspector.close();
  if (at === undefined) return;
  // Otherwise the exit would wait until the debugger disconnects.
  process.once('exit', () => inspector.close());
  const timer = setTimeout(warn, REPORT_AFTER_MS, at, log).unref();
  while (wanted === at && (await isTaken(at))) await sleep(RETRY_MS);
  clearTimeout(timer);
  if (wanted === at) inspector.open(at.port, at.host);
}

/** Resolves when the app may be loaded: when the inspector is open, or will open later, and with `isAwaited` once a debugger is attached. */
export async function openBeforeLoading(at: InspectorAddress, log: LogSource): Promise<void> {
  const opened = setInspector(at, log);
  await (at.isAwaited ? opened : Promise.race([opened, sleep(MAX_DELAY_MS)]));
  if (!at.isAwaited || wanted !== at) return;
  inspector.waitForDebugger();
  // biome-ignore lint/suspicious/noDebugger: as with node --inspect-brk, the debugger stops here, before the app runs
  debugger;
}

function warn({ host, port }: InspectorAddress, log: LogSource): void {
  const warning = 'another program has the port of the inspector, which opens once it is free; choose one with --inspect=PORT';
  log().warn({ event: 'dev.inspector-waits', address: hostAndPort(host, port), warning });
}

/** Node.js would print an error each time that it finds the port in use. */
async function isTaken({ host, port }: InspectorAddress): Promise<boolean> {
  const socket = connect(port, host);
  const isTaken = await new Promise<boolean>(resolve =>
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
  );
  socket.destroy();
  return isTaken;
}
