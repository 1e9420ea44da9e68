/**
 * The same types for CommonJS projects, whose compilers do not import an ES module.
 */
export type * from './index.ts' with { 'resolution-mode': 'import' };
