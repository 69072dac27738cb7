# The web role: user, directories, configuration and service. The code comes with the deployment.
include_recipe 'greenroom_base'

name = node['webapp']['name']
port = node.read(name, 'port') || node['webapp']['port']
database = search(:node, "role:#{node['webapp']['database_role']}").min_by(&:name)
Chef::Log.warn("no node has the role #{node['webapp']['database_role']}: using this one") if database.nil?

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

template "/etc/#{name}/web.conf" do
  source 'web.conf.erb'
  mode '0644'
  variables(
    port: port,
    host: database.nil? ? '127.0.0.1' : database['ipaddress'],
    database_port: node.read(name, 'database_port') || node['webapp']['database_port']
  )
  notifies :restart, "greenroom_service[#{name}-web]", :delayed
end

greenroom_service "#{name}-web" do
  command 'bin/web'
  directory "/srv/#{name}/current"
  user name
  log "/var/log/#{name}/web.log"
end
