/**
 * Types of TypeScript as the generated clients of Kubernetes write them, and their schemas.
 */
import type { Schema } from './schemas.ts';

export const PLAIN: Record<string, Schema> = {
  string: { type: 'string' },
  number: { type: 'integer' }, // no kind here has a fraction
  boolean: { type: 'boolean' },
  Date: { type: 'string' },
  IntOrString: { type: ['integer', 'string'] },
  object: {},
  any: {},
};
