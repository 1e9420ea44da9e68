/**
 * The Helm chart k8s/chart as Helm renders it: by `helm` where it is on the PATH, else by the program that CHART_RENDER names, or
 * ../shared/engine/chart-render beside the repository, which renders many cases in one process.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import type { Manifest } from './manifests.ts';

const ROOT = join(import.meta.dirname, '..', '..');
export const CHART = join(ROOT, 'k8s', 'chart');

export type Values = { [key: string]: unknown };

export const readChart = (file: string): string => readFileSync(join(CHART, file), 'utf8');

/** What values.yaml has. */
export const DEFAULTS = parse(readChart('values.yaml')) as Values;

/** Every file of templates/, by its path in the chart. */
export const TEMPLATES: readonly string[] = readdirSync(join(CHART, 'templates'), { recursive: true, withFileTypes: true })
  .filter(entry => entry.isFile())
  .map(entry => relative(CHART, join(entry.parentPath, entry.name)))
  .sort();

export interface Case {
  values?: Values;
  /** Default: shop. */
  release?: string;
  /** Default: team. */
  namespace?: string;
}

const standIn = process.env.CHART_RENDER ?? join(ROOT, '..', 'shared', 'engine', 'chart-render');
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

/** Values over defaults, as Helm does it: maps are merged, lists replaced, and null removes a default. */
export function merged(base: Values, over: Values): Values {
  const all = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const below = all[key];
    if (value === null) delete all[key];
    else all[key] = isMap(value) && isMap(below) ? merged(below, value) : value;
  }
  return all;
}

export const isMap = (value: unknown): value is Values => typeof value === 'object' && value !== null && !Array.isArray(value);

/** `{ 'a.b': 1 }` as `{ a: { b: 1 } }`. */
export function nested(flat: Values): Values {
  const all: Values = {};
  for (const [path, value] of Object.entries(flat)) {
    const keys = path.split('.');
    const last = keys.pop() ?? '';
    let inner = all;
    for (const key of keys) {
      inner[key] ??= {};
      inner = inner[key] as Values;
    }
    inner[last] = value;
  }
  return all;
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
