/**
 * Validates manifests against the OpenAPI schemas of one Kubernetes version, and of the custom resources that clusters have beside it:
 * unknown fields, wrong types, missing fields. The schemas are in ./schemas (`make k8s-schemas` writes all but vpa.json; each file names its
 * source).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { Manifest } from './manifests.ts';

export type Schema = Record<string, unknown>;
/** An object with these fields and no others. */
export type Definition = Schema & { properties: Record<string, Schema> };

export const FOLDER = join(import.meta.dirname, 'schemas');

/** Oldest first. */
export const VERSIONS = ['1.31', '1.32', '1.33', '1.34', '1.35', '1.36'] as const;
export type Version = (typeof VERSIONS)[number];

/** The definition of each kind that this project uses. */
export const KINDS: Record<string, string> = {
  'v1 Namespace': 'V1Namespace',
  'v1 ServiceAccount': 'V1ServiceAccount',
  'v1 ConfigMap': 'V1ConfigMap',
  'v1 Secret': 'V1Secret',
  'v1 Service': 'V1Service',
  'v1 Pod': 'V1Pod',
  'v1 PersistentVolumeClaim': 'V1PersistentVolumeClaim',
  'apps/v1 Deployment': 'V1Deployment',
  'apps/v1 StatefulSet': 'V1StatefulSet',
  'batch/v1 Job': 'V1Job',
  'policy/v1 PodDisruptionBudget': 'V1PodDisruptionBudget',
  'autoscaling/v2 HorizontalPodAutoscaler': 'V2HorizontalPodAutoscaler',
  'networking.k8s.io/v1 Ingress': 'V1Ingress',
  'networking.k8s.io/v1 NetworkPolicy': 'V1NetworkPolicy',
};

/** Kinds of the Gateway API, KEDA, the Prometheus operator and the vertical pod autoscaler. */
export const CUSTOM_KINDS: Record<string, string> = {
  'autoscaling.k8s.io/v1 VerticalPodAutoscaler': 'autoscaling.k8s.io.v1.VerticalPodAutoscaler',
  'gateway.networking.k8s.io/v1 Gateway': 'gateway.networking.k8s.io.v1.Gateway',
  'gateway.networking.k8s.io/v1 HTTPRoute': 'gateway.networking.k8s.io.v1.HTTPRoute',
  'keda.sh/v1alpha1 ScaledObject': 'keda.sh.v1alpha1.ScaledObject',
  'keda.sh/v1alpha1 TriggerAuthentication': 'keda.sh.v1alpha1.TriggerAuthentication',
  'monitoring.coreos.com/v1 PodMonitor': 'monitoring.coreos.com.v1.PodMonitor',
  'monitoring.coreos.com/v1 PrometheusRule': 'monitoring.coreos.com.v1.PrometheusRule',
  'monitoring.coreos.com/v1 ServiceMonitor': 'monitoring.coreos.com.v1.ServiceMonitor',
};

/** What a cluster of that Kubernetes version refuses, one line each. */
export function problems(manifest: Manifest, version: Version): string[] {
  const kind = `${manifest.apiVersion} ${manifest.kind}`;
  const definition = KINDS[kind] ?? CUSTOM_KINDS[kind];
  if (definition === undefined) return [`${kind}: not a kind that this project uses (Kubernetes ${version})`];
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
  made.addSchema({ $id: '', $defs: { ...definitionsAt(version), ...read('custom'), ...read('vpa') } });
  validators.set(version, made);
  return made;
}

/** The definitions of the first version, with the changes of each later one up to `version`. */
export function definitionsAt(version: Version): Record<string, Definition> {
  const upTo = VERSIONS.slice(0, VERSIONS.indexOf(version) + 1);
  return Object.assign({}, ...upTo.map(read)) as Record<string, Definition>;
}

function read(file: string): Record<string, Definition> {
  const { $comment, ...definitions } = JSON.parse(readFileSync(join(FOLDER, `${file}.json`), 'utf8'));
  return definitions;
}
