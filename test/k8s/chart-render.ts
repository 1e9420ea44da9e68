/**
 * The chart as Helm renders it: by `helm` where it is on the PATH, else by the program that CHART_RENDER names, or
 * ../shared/engine/chart-render beside the repository, which renders many cases in one process.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { CHART, DEFAULTS, merged, TEMPLATES, type Values } from './chart.ts';
import { at, find, K8S, listAt, type Manifest } from './manifests.ts';

export interface Case {
  values?: Values;
  /** Default: shop. */
  release?: string;
  /** Default: team. */
  namespace?: string;
}

const standIn = process.env.CHART_RENDER ?? join(K8S, '..', '..', 'shared', 'engine', 'chart-render');
const hasHelm = spawnSync('helm', ['version', '--short']).status === 0;
const hasStandIn = !hasHelm && existsSync(standIn) && spawnSync(standIn, [CHART], { timeout: 240_000 }).status === 0;

/** Why nothing can be rendered here; false if it can. */
export const noRenderer = hasHelm || hasStandIn ? false : 'no helm here, and no stand-in that renders the chart (CHART_RENDER)';

/** What each case renders to. @throws Error with the message of the template that refuses a case */
export function renderAll(cases: readonly Case[]): Manifest[][] {
  return hasHelm ? cases.map(one => manifestsIn(helm(one))) : renderTogether(cases);
}

export const render = (values: Values = {}): Manifest[] => renderAll([{ values }])[0] ?? [];

/** Parsed from the text, in which no key may occur twice. @throws Error */
export function renderStrictly(values: Values, chart = CHART): Manifest[] {
  if (hasHelm) return manifestsIn(helm({ values }, [], chart));
  return manifestsIn(withValues(values, file => run(standIn, [chart, '-n', 'shop', '-ns', 'team', '-f', file])));
}

/** NOTES.txt as it is printed after an installation. */
export function notes(values: Values): string {
  if (hasHelm) return helm({ values }, ['--notes']);
  return (
    withValues(values, file => run(standIn, [CHART, '-n', 'shop', '-ns', 'team', '-notes', '-f', file])).split('\n---\n')[0] ?? ''
  );
}

function helm({ values = {}, release = 'shop', namespace = 'team' }: Case, more: string[] = [], chart = CHART): string {
  return withValues(values, file => run('helm', ['template', release, chart, '-n', namespace, '-f', file, ...more]));
}

function withValues(values: Values, use: (file: string) => string): string {
  const folder = mkdtempSync(join(tmpdir(), 'chart-values-'));
  try {
    writeFileSync(join(folder, 'values.json'), JSON.stringify(values));
    return use(join(folder, 'values.json'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function run(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 64 << 20 });
}

/** One process for all cases: a copy of the chart with a template that includes every other one for each case. */
const EVERY_CASE = `{{- range $case := .Values.cases }}
{{- $release := dict "Name" $case.release "Namespace" $case.namespace "Service" "Helm" "IsInstall" true "IsUpgrade" false "Revision" 1 }}
{{- $documents := list }}
{{- range $.Values.templates }}
{{- range include . (dict "Values" $case.values "Release" $release "Chart" $.Chart "Files" $.Files "Capabilities" $.Capabilities) | splitList "\\n---\\n" }}
{{- $documents = append $documents (printf "%s\\n" . | fromYaml) }}
{{- end }}
{{- end }}
---
{{ toJson $documents }}
{{- end }}
`;

function renderTogether(cases: readonly Case[]): Manifest[][] {
  const folder = mkdtempSync(join(tmpdir(), 'chart-'));
  try {
    const copy = join(folder, 'chart');
    cpSync(CHART, copy, { recursive: true });
    writeFileSync(join(copy, 'templates', 'zz-every-case.yaml'), EVERY_CASE);
    const values = cases.map(({ values = {}, release = 'shop', namespace = 'team' }) => {
      return { release, namespace, values: merged(DEFAULTS, values) };
    });
    const templates = TEMPLATES.filter(file => file.endsWith('.yaml'));
    writeFileSync(join(folder, 'cases.json'), JSON.stringify({ cases: values, templates }));
    const [, rendered = ''] = run(standIn, [copy, '-f', join(folder, 'cases.json')]).split(
      '# Source: templates/zz-every-case.yaml\n',
    );
    return rendered
      .split('---\n')
      .filter(text => text.trim() !== '')
      .map(text => (JSON.parse(text) as Manifest[]).filter(manifest => Object.keys(manifest).length > 0));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Helm skips empty documents. @throws Error for what is no YAML */
function manifestsIn(yaml: string): Manifest[] {
  return parseAllDocuments(yaml, { uniqueKeys: true }).flatMap(document => {
    if (document.errors.length > 0) throw new Error(`YAML: ${document.errors.join('; ')}\n${yaml}`);
    const manifest = document.toJS() as Manifest | null;
    return manifest === null ? [] : [manifest];
  });
}

/** What a template says of impossible values. */
export function refusal(values: Values): string {
  try {
    withValues(values, file =>
      hasHelm
        ? run('helm', ['template', 'shop', CHART, '--skip-schema-validation', '-f', file])
        : run(standIn, [CHART, '-n', 'shop', '-f', file]),
    );
    return 'accepted';
  } catch (error) {
    return String((error as { stderr?: unknown }).stderr);
  }
}

const APP = 'spec.template.spec.containers.0';
export const nameOf = (manifest: Manifest) => String(at(manifest, 'metadata.name'));

/** What is at `Kind/name path`; variables of a container are found by their name. */
export function valueAt(manifests: readonly Manifest[], where: string): unknown {
  const [object = '', path = ''] = where.split(' ');
  const [kind = '', name = ''] = object.split('/');
  const own =
    name === '' ? manifests.find(one => one.kind === kind && !/-(redis|test)/.test(nameOf(one))) : find(manifests, kind, name);
  const [, list = '', variable] = /^(.*\.env)\.(\w+)$/.exec(path) ?? [];
  if (variable === undefined) return at(own, path);
  const { name: _, ...source } = listAt(own, list).find(one => one.name === variable) ?? {};
  return Object.keys(source).length > 0 ? source : undefined;
}

/** A variable of the app: its value, or where it comes from. */
export const env = (manifests: readonly Manifest[], name: string) => valueAt(manifests, `Deployment ${APP}.env.${name}`);
