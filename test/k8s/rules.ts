/**
 * What manifests must keep to, a rule each: its id, why, and where that comes from. Pure over parsed YAML.
 */
import { APPLY_RULES } from './apply.ts';
import { NETWORK_RULES } from './network.ts';
import { POD_RULES } from './pods.ts';
import { REDIS_RULES } from './redis.ts';
import type { Manifest, Rule } from './rule.ts';
import { SERVING_RULES } from './serving.ts';

export const RULES: Rule[] = [...APPLY_RULES, ...POD_RULES, ...SERVING_RULES, ...NETWORK_RULES, ...REDIS_RULES];

/** Every broken rule, as `id: what`. */
export const broken = (manifests: readonly Manifest[]) =>
  RULES.flatMap(({ id, reason, broken }) => broken(manifests).map(what => `${id}: ${what} (${reason})`));
