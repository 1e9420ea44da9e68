/**
 * Definitions from the models of the official JavaScript client (npm @kubernetes/client-node, Apache-2.0): they name each field with its
 * type, and in their declarations which ones are required.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { PLAIN } from './plain.ts';
import type { Definition, Schema } from './schemas.ts';

interface Field {
  baseName: string;
  type: string;
}

/** Of a model in the unpacked client, which must be made from that OpenAPI document. */
export async function definitionIn(folder: string, model: string, document: string): Promise<Definition> {
  const generated = join(folder, 'package', 'dist', 'gen');
  const newer = join(generated, 'models', model); // since 1.0
  const file = existsSync(`${newer}.js`) ? newer : join(generated, 'model', model.replace('V', 'v'));
  const [, says] = /OpenAPI (?:spec version|document): (\S+)/.exec(readFileSync(`${file}.js`, 'utf8')) ?? [];
  if (says !== document) throw new Error(`${file}.js must be made from the OpenAPI document ${document}, got ${says}`);
  const module = (await import(pathToFileURL(`${file}.js`).href)) as Record<string, { attributeTypeMap: Field[] }>;
  const fields = module[model]?.attributeTypeMap;
  if (fields === undefined) throw new Error(`${file}.js must export ${model}`);
  const declaration = readFileSync(`${file}.d.ts`, 'utf8');
  const required = fields.map(({ baseName }) => baseName).filter(name => new RegExp(`^ +'_?${name}': `, 'm').test(declaration));
  const properties = Object.fromEntries(fields.map(({ baseName, type }) => [baseName, schema(type)]));
  return { type: 'object', additionalProperties: false, ...(required.length > 0 && { required }), properties };
}

/** Of a type as the client writes it: `V1Container`, `Array<string>`, `{ [key: string]: string; }`. */
function schema(type: string): Schema {
  const plain = PLAIN[type];
  if (plain !== undefined) return plain;
  const item = /^Array<(.+)>$/.exec(type)?.[1];
  if (item !== undefined) return { type: 'array', items: schema(item) };
  const value = /^\{ \[key: string\]: (.+); \}$/.exec(type)?.[1];
  if (value !== undefined) return { type: 'object', additionalProperties: schema(value) };
  if (!/^\w+$/.test(type)) throw new Error(`a type of the Kubernetes client was expected, got ${type}`);
  return { $ref: `#/$defs/${type}` };
}
