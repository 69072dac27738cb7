# The db role: user, data directory, configuration and service. The code comes with the deployment.
include_recipe 'greenroom_base'

name = node['database']['name']

group name do
  system true
end

user name do
  gid name
  home "/srv/#{name}"
  shell '/usr/sbin/nologin'
  system true
  manage_home false
end

["/srv/#{name}", "/etc/#{name}"].each do |path|
  directory path do
    mode '0755'
  end
end

directory "/var/log/#{name}" do
  owner name
  group name
  mode '0755'
end

directory "/var/lib/#{name}" do
  owner name
  group name
  mode '0700'
end

template "/etc/#{name}/db.conf" do
  source 'db.conf.erb'
  mode '0644'
  variables(
    port: node.read(name, 'database_port') || node['database']['port'],
    data: "/var/lib/#{name}",
    max_keys: node['database']['max_keys']
  )
  notifies :restart, "greenroom_service[#{name}-db]", :delayed
end

greenroom_service "#{name}-db" do
  command 'bin/db'
  directory "/srv/#{name}/current"
  user name
  log "/var/log/#{name}/db.log"
end
