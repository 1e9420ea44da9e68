/**
 * Rules for the Redis that comes with the manifests: its configuration is a part of its command.
 */
import { at, containersOf, listAt, type Manifest, nameOf, ofKind, type Rule } from './rule.ts';

const SOURCE = 'redis.io, configuration';

/** A rule for the configuration, as `name → value`, where there is a Redis. */
function redisKeeps(id: string, reason: string, keeps: (configuration: Map<string, string>, redis: Manifest) => boolean): Rule {
  const broken = (all: readonly Manifest[]) =>
    ofKind(all, 'StatefulSet')
      .filter(redis => !keeps(configurationOf(redis), redis))
      .map(nameOf);
  return { id, reason, source: SOURCE, broken };
}

function configurationOf(redis: Manifest): Map<string, string> {
  const script =
    containersOf(redis)
      .flatMap(container => listAt(container, 'command').map(String))
      .at(-1) ?? '';
  const [, lines = ''] = /<<END\n([\s\S]*)\nEND/.exec(script) ?? [];
  return new Map(lines.split('\n').map(line => [line.split(' ', 1)[0] ?? '', line.slice(line.indexOf(' ') + 1)]));
}

const UNITS: Record<string, number> = { mb: 1 << 20, Mi: 1 << 20, gb: 1 << 30, Gi: 1 << 30 };

function bytesOf(text: unknown): number {
  const [, count, unit = ''] = /^(\d+)([A-Za-z]+)$/.exec(String(text)) ?? [];
  return Number(count) * (UNITS[unit] ?? Number.NaN);
}

export const REDIS_RULES: Rule[] = [
  redisKeeps('redis-memory', 'a rewrite of the append-only file copies up to as much again', (configuration, redis) => {
    const [container] = containersOf(redis);
    return 2 * bytesOf(configuration.get('maxmemory')) <= bytesOf(at(container, 'resources.limits.memory'));
  }),
  redisKeeps('redis-append-only', 'sessions outlive the pod', configuration => configuration.get('appendonly') === 'yes'),
  redisKeeps('redis-eviction', 'the keys that sign cookies have no end, and must not go', configuration =>
    /^volatile-/.test(configuration.get('maxmemory-policy') ?? ''),
  ),
  redisKeeps('redis-takes-pods', 'without a password it would take its own pod only', configuration => {
    return configuration.get('protected-mode') === 'no';
  }),
  redisKeeps('redis-volume', 'what it writes is on the claim', (configuration, redis) => {
    const claims = listAt(redis, 'spec.volumeClaimTemplates').map(claim => at(claim, 'metadata.name'));
    const mounts = containersOf(redis).flatMap(container => listAt(container, 'volumeMounts'));
    return mounts.some(({ name, mountPath }) => claims.includes(name) && mountPath === configuration.get('dir'));
  }),
  redisKeeps('redis-alone', 'two of them would be two stores', (_configuration, redis) => at(redis, 'spec.replicas') === 1),
];
