/**
 * The same types for CommonJS projects, whose compilers do not import an ES module.
 */
export type * from './index.ts' with { 'resolution-mode': 'import' };

/** What CommonJS modules add to {@link BosunEvents} of index.ts: `declare module` reaches only what a file declares itself. */
// biome-ignore lint/suspicious/noEmptyInterface: an interface can be extended, a type cannot
export interface BosunEvents {}
