/**
 * The connection of the event bus to the other pods: what it uses of pub/sub, and with which settings.
 */
import type { Config } from '../config/config.ts';
import type { Service } from '../config/service.ts';
import { variables } from '../config/variables.ts';
import type { PubSub, PubSubListener } from './pubsub.ts';

/** What the event bus uses of pub/sub. */
export type Connection = Pick<
  PubSub,
  | 'redis'
  | 'names'
  | 'readNames'
  | 'retained'
  | 'isConnected'
  | 'isSigned'
  | 'dropped'
  | 'publish'
  | 'findMaster'
  | 'reconnect'
  | 'close'
>;

/** Loaded late, since no fork and no first response waits for it. */
export async function openConnection(
  config: Config,
  service: Service,
  pod: string,
  listener: PubSubListener,
): Promise<Connection | undefined> {
  const [{ PubSub }, { ServiceNames }] = await Promise.all([import('./pubsub.ts'), import('./service-names.ts')]);
  return PubSub.open(config, pod, listener, new ServiceNames(config, service));
}

/** The settings that pub/sub is opened with, for comparison. */
export function redisSettings(config: Config): string {
  // By name: the configuration lists no secrets.
  const keys = [...Object.keys(variables), 'redisCa'].filter(
    key => key.startsWith('redis') || key === 'sessionCookie' || key === 'sessionKeys',
  );
  return JSON.stringify(keys.map(key => config[key as keyof Config]));
}
