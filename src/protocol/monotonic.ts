/** Milliseconds on the clock that all processes of the machine share; `performance.now()` starts at 0 in each process. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
