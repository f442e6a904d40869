/**
 * One name of an environment variable for each of these names, in capitals: `ai-llm` and `_MIG_UUID` give
 * `AI_LLM_MIG_UUID`. Two names that would become the same get a number, in their order.
 */
export function variableNames(names: readonly string[], ending: string): ReadonlyMap<string, string> {
  const taken = new Set<string>();
  return new Map(
    names.map((name) => {
      const letters = name.toUpperCase().replace(/[^A-Z0-9]/g, '_');
      const stem = /^\d/.test(letters) ? `_${letters}` : letters;
      let variable = `${stem}${ending}`;
      for (let n = 2; taken.has(variable); n++) variable = `${stem}_${n}${ending}`;
      taken.add(variable);
      return [name, variable];
    }),
  );
}
