/**
 * The policies that promises are tested with: the ways in which a connection reaches a worker are two, from the primary and from a shared
 * socket. `make soak` takes all policies.
 */
export const SOAKS = process.env.SOAK === '1';

/** The default, and the one whose primary hands connections over. */
export const POLICIES = SOAKS ? ['least-connections', 'rr', 'none', 'reuseport', 'response-time'] : ['least-connections', 'rr'];
