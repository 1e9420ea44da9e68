/**
 * The memory of this process.
 */
let last = process.memoryUsage();

/**
 * As `process.memoryUsage()`, in bytes. That opens a file, and throws where a flood of connections has left no descriptor: the last one that
 * was read is good enough then.
 */
export function memoryUsage(): NodeJS.MemoryUsage {
  try {
    last = process.memoryUsage();
  } catch {
    // It is read again in a second.
  }
  return last;
}
