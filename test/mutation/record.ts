import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { coverage, type Coverage } from './coverage.ts';
import { fates, type Fate } from './judge.ts';

const judged = z.object({ mutant: z.string(), fate: z.enum(fates) });

/** What is known of this code and these tests, so that a run that was ended goes on where it was. */
export class RunRecord {
  readonly #file: string;
  readonly #coverageFile: string;
  readonly #known = new Map<string, Fate>();

  /** `contents` is of the code and the tests that it holds for. */
  constructor(repository: string, contents: string) {
    const folder = join(repository, 'node_modules/.cache/mutation');
    this.#file = join(folder, `${contents}.jsonl`);
    this.#coverageFile = join(folder, `${contents}-coverage.json`);
    mkdirSync(dirname(this.#file), { recursive: true });
    if (!existsSync(this.#file)) return;
    // The last line may be torn.
    const lines = readFileSync(this.#file, 'utf8').split('\n').slice(0, -1);
    for (const line of lines) {
      const { mutant, fate } = judged.parse(JSON.parse(line));
      this.#known.set(mutant, fate);
    }
  }

  fateOf(mutant: string): Fate | undefined {
    return this.#known.get(mutant);
  }

  add(mutant: string, fate: Fate): void {
    appendFileSync(this.#file, `${JSON.stringify({ mutant, fate })}\n`);
  }

  /** As measured before, or now. */
  async coverage(measure: () => Promise<Coverage>): Promise<Coverage> {
    if (existsSync(this.#coverageFile)) {
      return coverage.parse(JSON.parse(readFileSync(this.#coverageFile, 'utf8')));
    }
    const measured = await measure();
    writeFileSync(this.#coverageFile, JSON.stringify(measured));
    return measured;
  }
}
