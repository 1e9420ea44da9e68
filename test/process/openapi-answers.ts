/**
 * Answers of the admin port against docs/reference/openapi.yaml: status code, content type, and the schema of what is JSON. Stricter than
 * the document in one way: a field that it does not name is an error.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import type { Answer } from './clients.ts';
import { ROOT } from './kit.ts';

type Node = { readonly [key: string]: Node };

const document: Node = parse(readFileSync(join(ROOT, 'docs', 'reference', 'openapi.yaml'), 'utf8'));
const ajv = new Ajv2020({ allErrors: true, strict: false });
ajv.addSchema({ ...strict(document), $id: 'openapi' });

export const PATHS: readonly string[] = Object.keys(document.paths ?? {});

/** Without its query the path must be one of the document, and this one of its answers. */
export function assertDescribed(path: string, { status, headers, body }: Pick<Answer, 'status' | 'headers' | 'body'>): void {
  const described = resolved(document.paths?.[path.split('?', 1)[0] ?? '']?.get?.responses?.[status]);
  assert.ok(described, `${path}: ${status} must be in openapi.yaml`);
  const type = headers['content-type'] ?? '';
  const wanted = Object.keys(described.content ?? {})[0] ?? '';
  assert.ok(type.startsWith(wanted), `${path}: ${type} instead of ${wanted}`);
  for (const name of Object.keys(described.headers ?? {}))
    assert.ok(headers[name.toLowerCase()], `${path}: ${status} must have ${name}`);
  const schema = described.content?.[wanted]?.schema?.$ref;
  if (schema !== undefined) assertMatches(String(schema), JSON.parse(body), `${path}: ${status}`);
}

/** A message of /events by its name; the one without a name is `message`. */
export function assertMessage(name: string, data: unknown): void {
  assertMatches(`#/components/schemas/StreamedEvents/properties/${name}`, data, `/events: ${name}`);
}

function assertMatches(pointer: string, value: unknown, where: string): void {
  const validate = ajv.getSchema(`openapi${pointer}`);
  assert.ok(validate, `${pointer} must be in openapi.yaml`);
  validate(value);
  assert.deepEqual(validate.errors ?? [], [], `${where}: ${JSON.stringify(value)}`);
}

function resolved(node: Node | undefined): Node | undefined {
  const pointer = node?.$ref === undefined ? undefined : String(node.$ref);
  return pointer === undefined
    ? node
    : pointer
        .slice(2)
        .split('/')
        .reduce<Node | undefined>((at, key) => at?.[key], document);
}

/** Every object with listed fields allows no others. */
function strict(node: unknown): Node {
  if (typeof node !== 'object' || node === null) return node as Node;
  if (Array.isArray(node)) return node.map(strict) as unknown as Node;
  const entries = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, strict(value)])) as Node;
  return String(entries.type) === 'object' && 'properties' in entries
    ? ({ additionalProperties: false, ...entries } as unknown as Node)
    : entries;
}
