/**
 * What the primaries exchange below one root of names: two channels, retained events, and, with BROADCAST_DURABLE, a stream. There are two such
 * links while the name of the service changes, which carry the same.
 */
import type { Config } from '../config/config.ts';
import { redisDatabase } from '../config/redis-address.ts';
import type { RedisClient } from './redis.ts';
import { inDatabase, retainedKey } from './redis-names.ts';
import type { Seal } from './session-keys.ts';
import { type RetainedEvents, RetainedStore, type StampedJson, StreamConsumer } from './stored-events.ts';

export const CHANNELS = ['broadcast', 'fleet'] as const;
export type Channel = (typeof CHANNELS)[number];

export interface Link {
  root: string;
  /** Their names in Redis. */
  channels: Readonly<Record<Channel, string>>;
  retained: RetainedStore;
  /** Carries the events if they are durable. */
  stream: StreamConsumer | undefined;
}

export interface LinkListener {
  /** An event from the stream of that name. */
  onDurable(name: string, sealed: string): void;
  onIgnored(reason: 'unauthenticated' | 'malformed'): void;
}

export function openLink(
  config: Config,
  root: string,
  pod: string,
  publisher: RedisClient,
  seal: Seal,
  { onDurable, onIgnored }: LinkListener,
): Link {
  const nameOf = (name: string) => inDatabase(`${root}:${name}`, redisDatabase(config));
  const stream = nameOf('journal');
  return {
    root,
    channels: { broadcast: nameOf('broadcast'), fleet: nameOf('fleet') },
    retained: new RetainedStore(publisher, {
      key: retainedKey(root),
      label: nameOf('retained'),
      names: config.broadcastRetained,
      seal,
      onIgnored,
    }),
    stream: config.broadcastDurable
      ? new StreamConsumer(config, stream, pod, publisher, text => onDurable(stream, text))
      : undefined,
  };
}

/** The retained events of several links as one: what one of them has missed, another one has. */
export function retainedBy(links: readonly Link[]): RetainedEvents {
  const stores = links.map(({ retained }) => retained);
  return {
    keep: async (name, event) => newestOf(await Promise.all(stores.map(store => store.keep(name, event)))),
    all: async () => {
      const newest = new Map<string, StampedJson>();
      for (const store of stores)
        for (const [name, event] of await store.all()) newest.set(name, newestOf([newest.get(name), event]) ?? event);
      return newest;
    },
  };
}

const newestOf = (events: readonly (StampedJson | undefined)[]): StampedJson | undefined =>
  events.reduce((newest, event) => (newest === undefined || (event && event.stamp > newest.stamp) ? event : newest), undefined);
