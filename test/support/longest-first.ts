import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Which test files run when: those that start servers or whole programs before all others, so that a file of minutes,
 * which waits for most of its time, does not run alone at the end.
 */
const longest = [/\/test\/samples\//, /\/test\/end-to-end\//, /\/test\/(cli|adapters|service)\//];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = longest.findIndex((folder) => folder.test(moduleId));
      return at === -1 ? longest.length : at;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
