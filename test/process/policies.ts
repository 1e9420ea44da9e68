/**
 * The policies that promises are tested with: workers accept from one socket that they share, or from several. `make soak` takes all policies.
 */
export const SOAKS = process.env.SOAK === '1';

export const ALL_POLICIES = ['least-connections', 'rr', 'none', 'reuseport', 'response-time'];
export const POLICIES = SOAKS ? ALL_POLICIES : ['least-connections', 'reuseport'];
