/**
 * OpenTelemetry's resource attributes of a worker: service, pod, worker and generation, in the variable that every SDK reads. Workers always get
 * it, since an app may start its SDK by itself. Pure.
 */
import type { Environment } from '../config/config.ts';

const VARIABLE = 'OTEL_RESOURCE_ATTRIBUTES';
/** Longer values make an SDK ignore the whole variable. */
const MAX_LENGTH = 255;

export interface Instance {
  service: string;
  /** Of the app's package.json. */
  version: string | undefined;
  host: string;
  port: number;
  worker: number;
  generation: number;
}

/** `environment` is the operator's: attributes that are set there win. */
export function resourceAttributes(instance: Instance, environment: Environment): Environment {
  const { service, version, host, port, worker, generation } = instance;
  const attributes: Record<string, string | undefined> = {
    // Each worker is an instance of the service: OpenTelemetry requires one for each process of a server with workers.
    'service.instance.id': `${host}:${port}:${worker}`,
    'service.name': environment.OTEL_SERVICE_NAME ? undefined : service,
    'service.version': version,
    'k8s.pod.name': environment.KUBERNETES_SERVICE_HOST ? host : undefined,
    'bosun.worker': String(worker),
    'bosun.generation': String(generation),
  };
  const given = environment[VARIABLE] ?? '';
  const taken = new Set(given.split(',').map(entry => entry.split('=', 1)[0]?.trim()));
  const own = Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined || taken.has(key) ? [] : [`${key}=${encodeURIComponent(value.slice(0, MAX_LENGTH).toWellFormed())}`],
  );
  return { [VARIABLE]: [...own, ...(given.trim() === '' ? [] : [given])].join(',') };
}
