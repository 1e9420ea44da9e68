/**
 * Rules for YAML documents as JSON Schema, checked by ajv. Every part of a schema that says something has a name, so that a test can show
 * that each of them has been seen failing.
 */
import { Ajv2020 } from 'ajv/dist/2020.js';

export type Schema = { [keyword: string]: unknown };

/** Each call makes a part of its own: a rule is known by it. */
export const is = (value: unknown): Schema => ({ const: value });
export const matches = (pattern: RegExp): Schema => ({ type: 'string', pattern: pattern.source });
export const atLeast = (minimum: number): Schema => ({ minimum });
export const present = (): Schema => ({ not: { const: null } });
export const absent = (): Schema => ({ not: {} });
/** Every property is required, but for those that must be absent, and the optional ones. */
export function object(properties: Record<string, Schema>, optional: readonly string[] = []): Schema {
  const isAbsent = (schema: Schema | undefined) => JSON.stringify(schema) === JSON.stringify(absent());
  const required = Object.keys(properties).filter(name => !isAbsent(properties[name]) && !optional.includes(name));
  return { type: 'object', properties, required };
}
export const each = (items: Schema): Schema => ({ type: 'array', items });
export const some = (item: Schema): Schema => ({ type: 'array', contains: item });

export class Policy {
  readonly #validators;
  /** Names by the part of a schema. */
  readonly #names = new Map<unknown, string>();

  constructor(schemas: Record<string, Schema>) {
    const ajv = new Ajv2020({ allErrors: true, verbose: true, strict: false, $data: true });
    this.#validators = new Map(Object.entries(schemas).map(([name, schema]) => [name, ajv.compile(schema)]));
    for (const [name, schema] of Object.entries(schemas))
      for (const [part, path] of partsOf(schema, name)) if (!this.#names.has(part)) this.#names.set(part, path);
  }

  get rules(): string[] {
    return [...this.#names.values()];
  }

  /** What breaks the schema `name`, as `rule: where and why`; nothing if there is none. */
  faults(name: string, document: unknown): string[] {
    const validate = this.#validators.get(name);
    if (validate === undefined || validate(document)) return [];
    const faults = (validate.errors ?? []).flatMap(({ keyword, params, parentSchema, instancePath, message }) => {
      // Without an object, all that is said of its parts is broken.
      const broken =
        keyword === 'required'
          ? (parentSchema?.properties as Record<string, Schema> | undefined)?.[params.missingProperty]
          : parentSchema;
      const rules = [...partsOf(broken, '')].flatMap(([part]) => this.#names.get(part) ?? []);
      return rules.map(rule => `${rule}: ${instancePath || '/'} ${message}`);
    });
    return faults.length > 0 ? faults : [`${name}: ${JSON.stringify(validate.errors)}`];
  }
}

/** Every part that says more than that something is an object or a list, with its name. */
function* partsOf(schema: unknown, name: string): Generator<[part: unknown, name: string]> {
  if (typeof schema !== 'object' || schema === null) return;
  const {
    type,
    required,
    properties,
    items,
    allOf,
    additionalProperties,
    patternProperties,
    if: condition,
    then,
    ...says
  } = schema as Schema;
  if (Object.keys(says).length > 0) yield [schema, name];
  for (const [key, part] of Object.entries(properties ?? {})) yield* partsOf(part, `${name}.${key}`);
  for (const part of [
    ...((allOf ?? []) as unknown[]),
    ...Object.values(patternProperties ?? {}),
    items,
    additionalProperties,
    then,
  ])
    yield* partsOf(part, name);
}
