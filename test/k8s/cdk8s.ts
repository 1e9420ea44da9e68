/**
 * Definitions from the types that cdk8s ships for one Kubernetes version (npm cdk8s-plus-31, Apache-2.0, made from its OpenAPI
 * document): each field is tagged with its place in the document. Of whole objects they leave out apiVersion, kind and status.
 */
import { PLAIN } from './plain.ts';
import type { Definition, Schema } from './schemas.ts';

const LEFT_OUT = ['apiVersion', 'kind', 'status'];
const TYPES: Record<string, Schema> = { ...PLAIN, Quantity: { type: 'string' } };

/**
 * All definitions of an `imports/k8s.d.ts`, by the names that the official client gives them. What is left out is as in `before`, the
 * version before it.
 */
export function definitionsIn(declarations: string, before: Record<string, Definition>): Record<string, Definition> {
  const models = new Map<string, string>();
  const bodies = /@schema (io\.k8s\.\S+)\n \*\/\nexport interface (\w+) \{\n([\s\S]*?)\n\}/g;
  const interfaces = [...declarations.matchAll(bodies)];
  for (const [, id = '', name = ''] of interfaces) models.set(name, modelOf(id));
  const enums = new Set([...declarations.matchAll(/^export (?:declare )?enum (\w+)/gm)].map(([, name]) => name));
  return Object.fromEntries(
    interfaces.map(([, id = '', name = '', body = '']) => {
      const fields = [...body.matchAll(/@schema \S+#(\S+)\n +\*\/\n +readonly \w+(\??): ([^;{]+|\{[^}]+\});/g)];
      const schemaOf = (type: string) => (enums.has(type) ? { type: 'string' } : schema(type, models));
      const earlier = /^Kube\w+Props$/.test(name) ? Object.entries(before[modelOf(id)]?.properties ?? {}) : [];
      const properties = {
        ...Object.fromEntries(earlier.filter(([field]) => LEFT_OUT.includes(field))),
        ...Object.fromEntries(fields.map(([, field = '', , type = '']) => [field, schemaOf(type)])),
      };
      const required = fields.filter(([, , optional]) => optional === '').map(([, field]) => field);
      const definition = { type: 'object', additionalProperties: false, ...(required.length > 0 && { required }), properties };
      return [modelOf(id), definition];
    }),
  );
}

/** `io.k8s.api.autoscaling.v2.MetricSpec` is `V2MetricSpec`. */
function modelOf(id: string): string {
  const [version = '', name = ''] = id.split('.').slice(-2);
  return `${version.charAt(0).toUpperCase()}${version.slice(1)}${name}`;
}

function schema(type: string, models: ReadonlyMap<string, string>): Schema {
  const known = TYPES[type];
  if (known !== undefined) return known;
  if (type.endsWith('[]')) return { type: 'array', items: schema(type.slice(0, -2), models) };
  const [, value] = /^\{\s*\[key: string\]: ([^;]+);\s*\}$/.exec(type) ?? [];
  if (value !== undefined) return { type: 'object', additionalProperties: schema(value, models) };
  const model = models.get(type);
  if (model === undefined) throw new Error(`a type of cdk8s was expected, got ${type}`);
  return { $ref: `#/$defs/${model}` };
}
