import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hasErrorCode } from '../errors/error.ts';

/**
 * Files are written to a temporary file next to the target, synced and renamed: a reader, even after a crash of the
 * process or the host, finds either the complete old or the complete new content.
 */

/** Replaces a small file atomically; creates its directory if it is missing. */
export function replaceFileSync(file: string, content: string, mode = 0o644): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
  const unfinished = unfinishedOf(file);
  try {
    const fd = openSync(unfinished, 'w', mode);
    try {
      writeFileSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(unfinished, file);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
}

/** Returns the contents of a small file; `undefined` if it does not exist. */
export function readIfPresent(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (hasErrorCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Replaces a large file atomically, piece by piece; if `write` throws, the file stays unchanged. */
export async function replaceFile(
  file: string,
  options: { readonly mode: number; readonly folderMode: number },
  write: (target: FileHandle) => Promise<void>,
): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: options.folderMode });
  const unfinished = unfinishedOf(file);
  try {
    const target = await open(unfinished, 'w', options.mode);
    try {
      await write(target);
      await target.sync();
    } finally {
      await target.close();
    }
    await rename(unfinished, file);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
}

function unfinishedOf(file: string): string {
  return `${file}.unfinished`;
}
