import { InputError } from '../core/input-error.js';

/** What becomes of a command whose standard output can no longer be written. */

type Output = NodeJS.EventEmitter & { write(text: string): boolean };

/**
 * A command without a reader is done, and one whose result does not fit says so: `end` is given null, or the fault.
 *
 * A reader that closes the pipe early (`gpumix plan … | head`) has read enough: that is no fault.
 */
export function endWithoutOutput(stdout: Output, end: (fault: unknown) => void): void {
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return end(null);
    if (error.code !== 'ENOSPC') return end(error);
    end(new InputError('standard output', [{ place: '', found: 'a full disk', expected: 'room for the result' }]));
  });
}

/**
 * A service goes on without its log: nobody's reader, and no disk, may end what autoscalers read. It is said once on the
 * other stream, as long as that is there; each later line is tried anew, so that the log goes on when there is room.
 */
export function goOnWithoutOutput(stdout: Output, stderr: Output): void {
  for (const stream of [stdout, stderr]) stream.removeAllListeners('error');
  let isTold = false;
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (isTold) return;
    isTold = true;
    const fault = error.code === 'ENOSPC' ? 'the disk is full' : `its reader is gone (${error.code ?? error.message})`;
    stderr.write(`gpumix: the log cannot be written, ${fault}: the service goes on without those lines\n`);
  });
  stderr.on('error', () => undefined);
}
