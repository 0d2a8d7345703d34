"""Templates of chats as Ollama writes them: what they write, and what they may not do."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.runtime.dialect import BadRequest
from cluster.runtime.go_reading import parsed
from cluster.runtime.go_template import MAX_STEPS, TemplateError, written
from cluster.runtime.prompts import prompt_of, require_template

CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]
CHATML = """{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if or (eq .Role "user") (eq .Role "system") }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ .Content }}{{ if not $last }}<|im_end|>
{{ end }}
{{- end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}"""
BY_TURNS = (
    """{{ if .System }}<|system|>{{ .System }}{{ end }}{{ if .Prompt }}<|user|>{{ .Prompt }}{{ end }}<|assistant|>{{ .Response }}<|end|>"""
)


def says(template, **values):
    return written(parsed(template), values)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{ .Name }} {{ .Nothing }}.", "Ada ."),
        ("{{ .Deep.Inner }}", "in"),
        ("a  {{- .Name -}}  b", "aAdab"),
        ("{{/* said to nobody */}}x{{- /* nor this */ -}} y", "xy"),
        ("{{ if .Name }}yes{{ else }}no{{ end }}", "yes"),
        ("{{ if .Nothing }}a{{ else if .Name }}b{{ else }}c{{ end }}", "b"),
        ("{{ if and .Name .Nothing }}a{{ else if or .Nothing .Name }}b{{ end }}", "b"),
        ("{{ range .Words }}<{{ . }}>{{ else }}none{{ end }}", "<x><y>"),
        ("{{ range .Nothing }}<{{ . }}>{{ else }}none{{ end }}", "none"),
        ("{{ range $i, $word := .Words }}{{ $i }}{{ $word }}{{ $.Name }}{{ end }}", "0xAda1yAda"),
        ("{{ range $word := .Words }}{{ $word }}{{ end }}", "xy"),
        ("{{ $found := false }}{{ range .Words }}{{ if eq . `y` }}{{ $found = true }}{{ end }}{{ end }}{{ $found }}", "true"),
        ("{{ with .Deep }}{{ .Inner }}{{ end }}", "in"),
        ("{{ len .Words }} {{ index .Words 1 }} {{ json .Words }} {{ .Words | len }}", '2 y ["x", "y"] 2'),
        ("{{ len (slice .Words 1) }}{{ slice .Name 0 2 }}", "1Ad"),
        ('{{ if eq .Name "Bob" "Ada" }}a{{ end }}{{ if not (ne .Name "Ada") }}b{{ end }}{{ if lt 1 2 }}c{{ end }}', "abc"),
        ('{{ "a \\"}}\\" quote" }}', 'a "}}" quote'),
    ],
)
def test_a_template_writes(template, text):
    assert says(template, Name="Ada", Words=["x", "y"], Deep={"Inner": "in"}) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Open", "{{ if .X }}", "{{ end }}", "{{ else }}", "{{ shell }}", "{{ 1 2 }}", "{{ (.X }}", "{{ }}", "{{ if .X }}{{ else }}{{ else }}{{ end }}",
        "{{ $x.Y := 1 2 }}", "{{ range .X }}{{ end }}{{ end }}", "{{ 'a' }}", '{{ "open }}', "{{ else if .X }}", "{{/* never closed }}",
    ],
)  # fmt: skip
def test_what_is_no_template_is_refused(template):
    with pytest.raises(TemplateError):
        parsed(template)


@pytest.mark.parametrize(
    "template", ["{{ index .Words 7 }}", "{{ range .Name }}{{ end }}", "{{ $nobody }}", "{{ $nobody = 1 }}", "{{ len 3 }}", "{{ eq }}"]
)
def test_what_does_not_fit_the_values_is_an_error(template):
    with pytest.raises(TemplateError):
        says(template, Name="Ada", Words=["x"])


@pytest.mark.parametrize(
    "template",
    [
        "{{ if 1 }}" * 5000 + "{{ end }}" * 5000,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "x" * 100_000,
        "{{ " + "/**/" * 5000,
        "{{" * 30_000,
    ],
)
def test_what_is_too_deep_or_too_long_is_refused(template):
    with pytest.raises(TemplateError):
        parsed(template)


def test_a_template_that_would_write_for_ever_is_stopped():
    nested = "{{ range $.Words }}" * 6 + "x" + "{{ end }}" * 6
    with pytest.raises(TemplateError, match="writes too much"):
        says(nested, Words=list(range(100)))
    assert MAX_STEPS < 100**6


@given(st.text(alphabet='{}.$ "`()|:=-/*abeIfrndgX1\n', max_size=60))
def test_whatever_is_given_is_written_or_refused(template):
    with contextlib.suppress(TemplateError):
        says(template, X="x")


# --- chats ------------------------------------------------------------------------------------------------------------------------------


def test_a_template_of_messages_writes_the_chat_at_once():
    system, one, two, three = (message["content"] for message in CHAT)
    assert prompt_of(CHATML, CHAT) == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{one}<|im_end|>\n<|im_start|>assistant\n{two}<|im_end|>\n"
        f"<|im_start|>user\n{three}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_of_turns_writes_them_one_by_one_up_to_the_answer():
    assert prompt_of(BY_TURNS, CHAT) == "<|system|>Be short.<|user|>one<|assistant|>two<|end|><|user|>three<|assistant|>"


def test_an_answer_that_has_begun_is_gone_on_with():
    assert prompt_of(BY_TURNS, CHAT[:3]) == "<|system|>Be short.<|user|>one<|assistant|>two"


def test_where_a_template_says_nothing_of_the_answer_it_follows_at_the_end():
    assert prompt_of("{{ .System }} {{ .Prompt }}:", CHAT[:2]) == "Be short. one:"


def test_neighbors_of_one_role_are_one_message():
    assert prompt_of("{{ .Prompt }}", [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]) == "a\n\nb"


@pytest.mark.parametrize("template", ["{% for message in messages %}", 7, "{{ if }}"])
def test_a_template_is_checked_before_it_is_taken(template):
    with pytest.raises(BadRequest) as refused:
        require_template(template)
    assert refused.value.status == 400
