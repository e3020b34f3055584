// The charts of the dashboard, from the numbers that the page holds as JSON; drawn anew when these are renewed, and in the
// colours of the theme. What they show is written beside each of them as well.
(() => {
  const drawn = new Map(); // by key
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const round = (number) => Number(number.toPrecision(3)).toLocaleString("en");
  const time = (ms) => (ms < 1000 ? `${round(ms)} ms` : `${round(ms / 1000)} s`);
  const written = {
    count: (number) => (number >= 10000 ? new Intl.NumberFormat("en", { notation: "compact" }).format(number) : number.toLocaleString("en")),
    percent: (number) => `${round(number)} %`,
    ms: time,
    usd: (number) => `$${round(number)}`,
  };

  const dataset = (line, chart) => {
    const colour = style(`--chart-${line.colour}`);
    if (chart.kind === "bar") return { label: line.name, data: line.values, backgroundColor: colour, barPercentage: 1, categoryPercentage: 0.9 };
    const alone = ({ dataIndex: i }) => (line.values[i - 1] == null && line.values[i + 1] == null ? 2 : 0);
    return {
      label: line.name, data: line.values, borderColor: colour, backgroundColor: colour, borderWidth: 2,
      pointRadius: alone, pointHitRadius: 8, spanGaps: false, tension: 0.2,
    };
  };

  const options = (chart, told) => {
    const write = written[chart.unit];
    const ticks = { color: style("--chart-text"), font: { size: 11 } };
    const grid = { color: style("--chart-grid") };
    const stacked = chart.kind === "bar";
    return {
      animation: false, responsive: true, maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      plugins: {
        legend: { display: false },
        tooltip: {
          callbacks: {
            title: ([one]) => told.moments[one.dataIndex],
            label: (one) => `${one.dataset.label}: ${write(one.raw)}`,
          },
        },
      },
      scales: {
        x: { stacked, grid: { display: false }, ticks: { ...ticks, maxRotation: 0, autoSkip: true, maxTicksLimit: 6 } },
        y: {
          stacked, grid, border: { display: false }, beginAtZero: true, suggestedMax: chart.unit === "percent" ? 5 : undefined,
          ticks: { ...ticks, maxTicksLimit: 4, precision: chart.unit === "count" ? 0 : undefined, callback: write },
        },
      },
    };
  };

  const draw = () => {
    const source = document.getElementById("dash-charts");
    const told = source ? JSON.parse(source.textContent) : { charts: [] };
    for (const one of told.charts) {
      const canvas = document.querySelector(`#chart-${one.key} canvas`);
      const data = { labels: told.labels, datasets: one.lines.map((line) => dataset(line, one)) };
      const before = drawn.get(one.key);
      if (before && before.canvas === canvas) {
        Object.assign(before, { data, options: options(one, told) });
        before.update();
      } else {
        before?.destroy();
        drawn.set(one.key, new Chart(canvas, { type: one.kind, data, options: options(one, told) }));
      }
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    const page = document.getElementById("dash");
    if (!page) return;
    const lost = (is) => { document.getElementById("dash-lost").hidden = !is; };
    draw();
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["class"] });
    page.addEventListener("htmx:afterSettle", () => { lost(false); draw(); });
    page.addEventListener("htmx:responseError", () => lost(true));
    page.addEventListener("htmx:sendError", () => lost(true));
  });
})();
