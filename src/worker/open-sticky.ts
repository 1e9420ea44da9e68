/**
 * Opens NODE_CLUSTER_STICKY (sticky/), where it is on, and decides with it which requests the app of this worker gets.
 */
import type { Config } from '../config/config.ts';
import type { Inherited } from '../config/inherited.ts';
import type { LogSource } from '../log/log.ts';
import type { Refuse, RefuseUpgrade } from './server.ts';
import type { Sticky } from './sticky/sticky.ts';

/** Undefined where it is off, and where the socket cannot be opened: the worker then serves every request that it receives. */
export async function openSticky(
  { workerSockets: folder, service }: Inherited,
  config: Config,
  log: LogSource,
): Promise<Sticky | undefined> {
  if (folder === undefined) return undefined;
  const { Sticky } = await import('./sticky/sticky.ts');
  const sticky = new Sticky({ folder, service: service.name, ...config });
  try {
    await sticky.open();
    return sticky;
  } catch (error) {
    log().warn({ event: 'sticky.failed', error: (error as Error).message });
    return undefined;
  }
}

/** What `shed` refuses is not passed on either; `limit` applies to what the app of this worker gets. */
export function refusalsOf(
  shed: Refuse | undefined,
  sticky: Sticky | undefined,
  limit: Refuse | undefined,
): [Refuse | undefined, RefuseUpgrade | undefined] {
  const own: Refuse | undefined =
    shed && limit ? (exchange, pass) => shed(exchange, pass) || limit(exchange, pass) : (shed ?? limit);
  if (sticky === undefined) return [own, undefined];
  const serve: (...args: Parameters<Refuse>) => boolean = (exchange, pass) => limit?.(exchange, pass) || pass();
  return [
    (exchange, pass) =>
      shed?.(exchange, pass) || sticky.passes(exchange, () => serve(exchange, pass)) || limit?.(exchange, pass) === true,
    (request, socket, head, pass) => sticky.passesUpgrade(request, socket, head, pass),
  ];
}
