/**
 * Validates manifests against the OpenAPI schemas of one Kubernetes version: unknown fields, wrong types, missing fields. The schemas are
 * in ./schemas (`make k8s-schemas` writes them; each file names its source).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { Manifest } from './manifests.ts';

export type Schema = Record<string, unknown>;
/** An object with these fields and no others. */
export type Definition = Schema & { properties: Record<string, Schema> };

export const FOLDER = join(import.meta.dirname, 'schemas');

/** Oldest first. The official client has had no release for 1.31 and 1.35. */
export const VERSIONS = ['1.30', '1.32', '1.33', '1.34', '1.36'] as const;
export type Version = (typeof VERSIONS)[number];

/** The definition of each kind that this project uses. */
export const KINDS: Record<string, string> = {
  'v1 Namespace': 'V1Namespace',
  'v1 ServiceAccount': 'V1ServiceAccount',
  'v1 ConfigMap': 'V1ConfigMap',
  'v1 Service': 'V1Service',
  'apps/v1 Deployment': 'V1Deployment',
  'apps/v1 StatefulSet': 'V1StatefulSet',
  'batch/v1 Job': 'V1Job',
  'policy/v1 PodDisruptionBudget': 'V1PodDisruptionBudget',
  'autoscaling/v2 HorizontalPodAutoscaler': 'V2HorizontalPodAutoscaler',
  'networking.k8s.io/v1 NetworkPolicy': 'V1NetworkPolicy',
};

/** The Prometheus operator's: Kubernetes has no schema for them. */
export const FOREIGN = ['monitoring.coreos.com/v1 PodMonitor', 'monitoring.coreos.com/v1 PrometheusRule'];

/** What that version of Kubernetes refuses, one line each; empty for a foreign kind. */
export function problems(manifest: Manifest, version: Version): string[] {
  const kind = `${manifest.apiVersion} ${manifest.kind}`;
  if (FOREIGN.includes(kind)) return [];
  const definition = KINDS[kind];
  if (definition === undefined) return [`${kind}: not a kind of Kubernetes ${version} that this project uses`];
  const validate = validatorOf(version).getSchema(`#/$defs/${definition}`);
  if (validate === undefined) throw new Error(`${version}.json must define ${definition}`);
  validate(manifest);
  return (validate.errors ?? []).map(({ instancePath, message, params }) => {
    return `${kind} ${instancePath || '/'} ${message} ${JSON.stringify(params)} (Kubernetes ${version})`;
  });
}

const validators = new Map<Version, Ajv2020>();

function validatorOf(version: Version): Ajv2020 {
  const known = validators.get(version);
  if (known !== undefined) return known;
  const made = new Ajv2020({ allErrors: true, allowUnionTypes: true });
  made.addSchema({ $id: '', $defs: definitionsAt(version) });
  validators.set(version, made);
  return made;
}

/** The definitions of the first version, with the changes of each later one up to `version`. */
export function definitionsAt(version: Version): Record<string, Definition> {
  const upTo = VERSIONS.slice(0, VERSIONS.indexOf(version) + 1);
  const { $comment, ...definitions } = Object.assign({}, ...upTo.map(read)) as Record<string, Definition>;
  return definitions;
}

const read = (version: Version) => JSON.parse(readFileSync(join(FOLDER, `${version}.json`), 'utf8')) as Record<string, Schema>;
