// Renders a Helm chart for the tests where Helm itself is not installed: Go's own text/template and sprig, which are what
// Helm renders with, and around them the few functions and objects that Helm adds. On stdin a JSON document, on stdout the
// rendered files by name. Debian: golang-go, golang-github-masterminds-sprig-dev, golang-k8s-sigs-yaml-dev.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type request struct {
	Chart     string                 `json:"chart"`
	Release   string                 `json:"release"`
	Namespace string                 `json:"namespace"`
	Values    map[string]interface{} `json:"values"` // merged over values.yaml already
}

// Files of the chart outside of templates/, as templates see them.
type files map[string][]byte

func (f files) Get(name string) string { return string(f[name]) }

func (f files) Glob(pattern string) files {
	found := files{}
	for name, content := range f {
		// Helm matches with gobwas/glob and the separator "/"; a single * means the same here.
		if matches, _ := path.Match(pattern, name); matches {
			found[name] = content
		}
	}
	return found
}

func main() {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fail(err)
	}
	rendered, err := render(asked)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(rendered); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func render(asked request) (map[string]string, error) {
	chart := map[string]interface{}{}
	text, err := os.ReadFile(filepath.Join(asked.Chart, "Chart.yaml"))
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(text, &chart); err != nil {
		return nil, err
	}
	// Templates say .Chart.AppVersion, the file says appVersion.
	for key, value := range chart {
		chart[strings.ToUpper(key[:1])+key[1:]] = value
	}

	templates := map[string]string{}
	others := files{}
	err = filepath.Walk(asked.Chart, func(file string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(asked.Chart, file)
		if strings.HasPrefix(name, "templates/") {
			templates[name] = string(content)
		} else {
			others[name] = content
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	root := template.New("chart").Option("missingkey=zero")
	root.Funcs(functions(root))
	for name, content := range templates {
		if _, err := root.New(name).Parse(content); err != nil {
			return nil, err
		}
	}
	rendered := map[string]string{}
	for name := range templates {
		if strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		var out bytes.Buffer
		err := root.ExecuteTemplate(&out, name, map[string]interface{}{
			"Values": asked.Values,
			"Chart":  chart,
			"Files":  others,
			"Release": map[string]interface{}{
				"Name": asked.Release, "Namespace": asked.Namespace, "Service": "Helm",
				"Revision": 1, "IsInstall": true, "IsUpgrade": false,
			},
			"Template": map[string]interface{}{"Name": name, "BasePath": "templates"},
		})
		if err != nil {
			return nil, err
		}
		rendered[name] = strings.ReplaceAll(out.String(), "<no value>", "")
	}
	return rendered, nil
}

func functions(root *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	delete(all, "env")
	delete(all, "expandenv")
	all["include"] = func(name string, data interface{}) (string, error) {
		var out strings.Builder
		err := root.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	all["required"] = func(message string, value interface{}) (interface{}, error) {
		if text, isText := value.(string); value == nil || (isText && text == "") {
			return nil, fmt.Errorf("%s", message)
		}
		return value, nil
	}
	all["toYaml"] = func(value interface{}) string {
		text, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	all["fromYaml"] = func(text string) map[string]interface{} {
		value := map[string]interface{}{}
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			value["Error"] = err.Error()
		}
		return value
	}
	all["fromYamlArray"] = func(text string) []interface{} {
		value := []interface{}{}
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			value = []interface{}{err.Error()}
		}
		return value
	}
	return all
}
