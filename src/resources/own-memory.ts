/**
 * The memory of this process.
 */
let last: NodeJS.MemoryUsage = { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 };

/**
 * As `process.memoryUsage()`, in bytes. That opens a file of /proc, and throws without /proc, or if a flood of connections has left no descriptor:
 * then the last reading is used.
 */
export function memoryUsage(): NodeJS.MemoryUsage {
  try {
    last = process.memoryUsage();
  } catch {
    // It is read again in a second.
  }
  return last;
}
